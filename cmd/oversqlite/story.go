package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// cast is what the story is about: rows that are written early and changed later.
type cast struct {
	ada, alan         string
	posts             []string
	engines, steam    string // a category and one below it
	team, captain     string
	photo             uuid.UUID
	addedByPhone      string
	addedByTheOffice  string
	conflicting, both string // posts that both devices change
}

// play tells the story, chapter by chapter. It ends with an error if the devices do not hold the same rows as the server.
func (s *stage) play(ctx context.Context) error {
	s.console.say("Two devices of one user, two SQLite files, and a server on %s.", s.front.url)
	roles := &cast{}
	for _, chapter := range []func(context.Context, *cast) error{
		s.offline, s.seed, s.secondDevice, s.apart, s.conflict, s.lostAnswer, s.cascade, s.office, s.compare,
	} {
		if err := chapter(ctx, roles); err != nil {
			return err
		}
	}
	return nil
}

// offline: an application like any other writes plain SQL; nobody has heard of a server yet.
func (s *stage) offline(ctx context.Context, roles *cast) error {
	s.title("The laptop is offline and nobody has signed in")
	if err := s.laptop.prepare(ctx); err != nil {
		return err
	}
	*roles = newCast()
	if err := s.laptop.write(ctx, roles.firstRows); err != nil {
		return err
	}
	pending, err := s.laptop.engine.PendingSyncStatus(ctx)
	if err != nil {
		return err
	}
	s.tell("The application writes %s in one transaction. Requests so far: %d.", count(pending.PendingRowCount, "row"), s.laptop.requests.Load())
	return nil
}

// seed: the server has never seen the account, so what is on the laptop is what there is.
func (s *stage) seed(ctx context.Context, _ *cast) error {
	s.title("Ada signs in on the laptop")
	result, err := s.laptop.attach(ctx)
	if err != nil {
		return err
	}
	s.tell("The account is new: %s.", result.Outcome)
	return s.sync(ctx, s.laptop)
}

// secondDevice: an empty file becomes a copy.
func (s *stage) secondDevice(ctx context.Context, _ *cast) error {
	s.title("Ada signs in on the phone, with an empty database")
	if err := s.phone.prepare(ctx); err != nil {
		return err
	}
	result, err := s.phone.attach(ctx)
	if err != nil {
		return err
	}
	if result.Restore == nil {
		return fmt.Errorf("the phone was to receive the server's rows, but: %s", result.Outcome)
	}
	s.tell("%s: %s arrive in a snapshot as of bundle %d.", result.Outcome, count(result.Restore.RowCount, "row"), result.Restore.BundleSeq)
	return nil
}

// apart: both go offline, change different rows, and meet again.
func (s *stage) apart(ctx context.Context, roles *cast) error {
	s.title("Both go offline and change different rows")
	err := s.laptop.write(ctx, func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`UPDATE users SET email = 'ada@analytical.example' WHERE id = ?`, roles.ada),
			stmt(`DELETE FROM posts WHERE id = ?`, roles.posts[len(roles.posts)-1]),
		)
	})
	if err != nil {
		return err
	}
	roles.addedByPhone = uuid.NewString()
	err = s.phone.write(ctx, func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`INSERT INTO posts (id, title, content, author_id) VALUES (?, 'From the train', 'Written without a network.', ?)`, roles.addedByPhone, roles.alan),
			stmt(`UPDATE typed_rows SET count_value = 9007199254740991, rating = 0.1, data = x'00ff' WHERE name = 'limits'`),
		)
	})
	if err != nil {
		return err
	}
	s.tell("The laptop corrects an address and deletes a post; the phone writes a post and a few awkward numbers.")
	return s.meet(ctx)
}

// conflict: both change the same rows.
func (s *stage) conflict(ctx context.Context, roles *cast) error {
	s.title("Both change the same two posts")
	err := s.laptop.write(ctx, func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`UPDATE posts SET title = 'Title from the laptop' WHERE id = ?`, roles.conflicting),
			stmt(`UPDATE posts SET title = 'Laptop was first' WHERE id = ?`, roles.both),
		)
	})
	if err != nil {
		return err
	}
	err = s.phone.write(ctx, func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`UPDATE posts SET content = 'Content from the phone' WHERE id = ?`, roles.conflicting),
			stmt(`UPDATE posts SET title = 'Phone was second' WHERE id = ?`, roles.both),
		)
	})
	if err != nil {
		return err
	}
	resolved := s.phone.engine.Subscribe(oversqlite.WithKinds(oversqlite.KindConflictResolved))
	defer resolved.Close()
	if err := s.meet(ctx); err != nil {
		return err
	}
	conflicts := int64(0)
	for len(resolved.C()) > 0 {
		if _, ok := (<-resolved.C()).(oversqlite.ConflictResolved); ok {
			conflicts++
		}
	}
	s.tell("The phone came second and met %s. Its resolver merges column by column:", count(conflicts, "conflict"))
	for _, id := range []string{roles.conflicting, roles.both} {
		var title, content string
		if err := s.phone.engine.DB().QueryRowContext(ctx, `SELECT title, content FROM posts WHERE id = ?`, id).Scan(&title, &content); err != nil {
			return err
		}
		s.tell("  %q / %q", title, content)
	}
	return nil
}

// lostAnswer: the worst moment for a connection to break.
func (s *stage) lostAnswer(ctx context.Context, roles *cast) error {
	s.title("The answer to the laptop's commit gets lost")
	fault := s.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Times: 1, CutAfter: true})
	defer fault.Remove()
	id, today := uuid.NewString(), time.Now().UTC().Format(time.RFC3339)
	err := s.laptop.write(ctx, func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`INSERT INTO posts (id, title, content, author_id, created_at, updated_at) VALUES (?, 'Sent once', 'And only once.', ?, ?, ?)`, id, roles.ada, today, today),
		)
	})
	if err != nil {
		return err
	}
	if err := s.sync(ctx, s.laptop); err != nil {
		return err
	}
	if fault.Hits() != 1 {
		return errors.New("the connection did not break when it should have")
	}
	s.tell("It asked again and learned that the server had committed: nothing is sent twice.")
	return nil
}

// cascade: one DELETE takes other rows along, on the device and on the server.
func (s *stage) cascade(ctx context.Context, roles *cast) error {
	s.title("The phone deletes a category, a team and a photo")
	before, err := s.phone.rows(ctx)
	if err != nil {
		return err
	}
	err = s.phone.write(ctx, func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`DELETE FROM categories WHERE id = ?`, roles.engines),
			stmt(`DELETE FROM teams WHERE id = ?`, roles.team),
			stmt(`DELETE FROM files WHERE id = ?`, roles.photo[:]),
		)
	})
	if err != nil {
		return err
	}
	after, err := s.phone.rows(ctx)
	if err != nil {
		return err
	}
	s.tell("Three DELETEs, and foreign keys take more along: %s fewer.", count(before-after, "row"))
	return s.meet(ctx)
}

// office: rows change on the server as well.
func (s *stage) office(ctx context.Context, roles *cast) error {
	s.title("Somebody in the office changes rows on the server")
	roles.addedByTheOffice = uuid.NewString()
	err := s.server.ExecWrite(ctx, user, "office", func(tx *sql.Tx) error {
		return execAll(tx,
			stmt(`INSERT INTO posts (id, title, content, author_id) VALUES (?, 'From the office', 'Welcome, Ada.', ?)`, roles.addedByTheOffice, roles.ada),
			stmt(`UPDATE users SET name = 'Alan M. Turing' WHERE id = ?`, roles.alan),
		)
	})
	if err != nil {
		return err
	}
	if err := s.sync(ctx, s.laptop); err != nil {
		return err
	}
	return s.sync(ctx, s.phone)
}

// meet lets the laptop sync, then the phone, then the laptop again, which now sees what the phone did.
func (s *stage) meet(ctx context.Context) error {
	for _, d := range []*device{s.laptop, s.phone, s.laptop} {
		if err := s.sync(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// prepare opens a device's database and creates the application's tables in it.
func (d *device) prepare(ctx context.Context) error {
	db, err := sql.Open("sqlite3", fileURI(d.path))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, devserver.BusinessClientSchema)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return d.engine.Open(ctx)
}

// attach attaches a device, which no other one keeps from it in this story.
func (d *device) attach(ctx context.Context) (oversqlite.Connected, error) {
	result, err := d.engine.Attach(ctx, user)
	if err != nil {
		return oversqlite.Connected{}, err
	}
	connected, ok := result.(oversqlite.Connected)
	if !ok {
		return connected, fmt.Errorf("the %s was told to wait", d.name)
	}
	return connected, nil
}

// write runs fn in a transaction of the application's.
func (d *device) write(ctx context.Context, fn func(*sql.Tx) error) error {
	return d.engine.Write(ctx, fn)
}

// rows counts the rows of all synced tables.
func (d *device) rows(ctx context.Context) (n int64, err error) {
	for _, t := range businessTables() {
		var k int64
		if err := d.engine.DB().QueryRowContext(ctx, `SELECT count(*) FROM `+quoted(t.Name)).Scan(&k); err != nil {
			return 0, err
		}
		n += k
	}
	return n, nil
}

// statement is an SQL statement with its arguments.
type statement struct {
	sql  string
	args []any
}

func stmt(sql string, args ...any) statement { return statement{sql, args} }

// execAll runs statements one after the other.
func execAll(tx *sql.Tx, statements ...statement) error {
	for _, s := range statements {
		if _, err := tx.Exec(s.sql, s.args...); err != nil {
			return err
		}
	}
	return nil
}

func newCast() cast {
	c := cast{
		ada: uuid.NewString(), alan: uuid.NewString(), engines: uuid.NewString(), steam: uuid.NewString(),
		team: uuid.NewString(), captain: uuid.NewString(), photo: uuid.New(),
	}
	for range 200 {
		c.posts = append(c.posts, uuid.NewString())
	}
	c.conflicting, c.both = c.posts[0], c.posts[1]
	return c
}

// firstRows writes what the story starts with. Of everything that is deleted later there is one that stays.
func (c *cast) firstRows(tx *sql.Tx) error {
	pixels := bytes.Repeat([]byte{0xff, 0xd8, 0x00}, 4096)
	review, landscape, otherTeam := uuid.New(), uuid.New(), uuid.NewString()
	if err := execAll(tx,
		stmt(`INSERT INTO users (id, name, email) VALUES (?, 'Ada Lovelace', 'ada@example.org'), (?, 'Alan Turing', 'alan@example.org')`, c.ada, c.alan),
		stmt(`INSERT INTO categories (id, name) VALUES (?, 'Engines'), (?, 'Poetry')`, c.engines, uuid.NewString()),
		stmt(`INSERT INTO categories (id, name, parent_id) VALUES (?, 'Steam engines', ?)`, c.steam, c.engines),
		stmt(`INSERT INTO teams (id, name, captain_member_id) VALUES (?, 'Analysts', ?), (?, 'Codebreakers', NULL)`, c.team, c.captain, otherTeam),
		stmt(`INSERT INTO team_members (id, name, team_id) VALUES (?, 'Ada', ?), (?, 'Charles', ?)`, c.captain, c.team, uuid.NewString(), c.team),
		stmt(`INSERT INTO team_members (id, name, team_id) VALUES (?, 'Alan', ?)`, uuid.NewString(), otherTeam),
		stmt(`INSERT INTO files (id, name, data) VALUES (?, 'portrait.jpg', ?), (?, 'landscape.jpg', ?)`, c.photo[:], pixels, landscape[:], pixels[1:]),
		stmt(`INSERT INTO file_reviews (id, review, file_id) VALUES (?, 'Sharp.', ?)`, review[:], c.photo[:]),
		stmt(`INSERT INTO typed_rows (id, name, enabled_flag) VALUES (?, 'limits', 1)`, uuid.NewString()),
	); err != nil {
		return err
	}
	for i, id := range c.posts {
		if err := execAll(tx, stmt(`INSERT INTO posts (id, title, content, author_id) VALUES (?, ?, 'Lorem ipsum.', ?)`, id, fmt.Sprintf("Note %d", i+1), c.ada)); err != nil {
			return err
		}
	}
	return nil
}
