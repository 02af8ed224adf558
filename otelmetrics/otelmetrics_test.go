package otelmetrics_test

import (
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/embedded"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/otelmetrics"
)

// points reads everything that was recorded: sums, and of histograms the counts, by instrument and attributes.
func points(t *testing.T, reader sdk.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	name := func(m metricdata.Metrics, set attribute.Set) string {
		s := m.Name
		for _, kv := range set.ToSlice() {
			s += " " + string(kv.Key) + "=" + kv.Value.AsString()
		}
		return s
	}
	for _, scope := range all.ScopeMetrics {
		if scope.Scope.Name != otelmetrics.Scope {
			t.Errorf("scope %q", scope.Scope.Name)
		}
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					found[name(m, p.Attributes)] += p.Value
				}
			case metricdata.Histogram[float64]:
				if m.Unit != "s" {
					t.Errorf("%s is in %q", m.Name, m.Unit)
				}
				for _, p := range data.DataPoints {
					found[name(m, p.Attributes)] += int64(p.Count)
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return found
}

func TestWhatAnEngineDoesIsRecorded(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	metrics, err := otelmetrics.New(sdk.NewMeterProvider(sdk.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	const schema = `CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, title TEXT NOT NULL);`
	server, err := devserver.New(devserver.Config{InMemory: true, Schema: schema, Tables: []devserver.Table{{Schema: "main", Name: "notes", Key: "id"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	web := httptest.NewServer(server.Handler())
	t.Cleanup(web.Close)
	token, err := server.IssueToken("ann")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "notes.db")
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	engine, err := oversqlite.New(oversqlite.Config{
		Path: path, Schema: "main", Tables: []oversqlite.Table{{Name: "notes", Key: "id"}}, ServerURL: web.URL,
		HTTPClient: &http.Client{Transport: bearer(token)}, Metrics: metrics,
		Retry: oversqlite.RetryConfig{Initial: time.Millisecond, Max: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	if err := engine.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := points(t, reader)["oversqlite.engines phase=idle"]; got != 1 {
		t.Errorf("%d engines are idle", got)
	}
	if _, err := engine.DB().Exec(`INSERT INTO notes VALUES ('a', 'x'), ('b', 'y')`); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Attach(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.PendingSyncStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := points(t, reader)["oversqlite.pending.rows"]; got != 2 {
		t.Errorf("%d rows are pending", got)
	}
	server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 503, Times: 1})
	if _, err := engine.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = engine.Close()
	found := points(t, reader)
	for want, n := range map[string]int64{
		"oversqlite.rows way=pushed": 2, "oversqlite.bundles way=pushed": 1, "oversqlite.pending.rows": 0,
		"oversqlite.engines phase=idle": 0, "oversqlite.engines phase=pushing": 0, "oversqlite.engines phase=closed": 0,
		"oversqlite.run.duration outcome=ok verb=Sync": 1, "oversqlite.run.duration outcome=ok verb=Attach": 1,
		"oversqlite.request.duration class=transient operation=pull": 1, "oversqlite.request.duration class=ok operation=pull": 1,
		"oversqlite.backoff.delay operation=pull": 1,
	} {
		if got, ok := found[want]; got != n || !ok {
			t.Errorf("%s is %d, want %d", want, got, n)
		}
	}
	for name := range found {
		if strings.Contains(name, "ann") || strings.Contains(name, "notes") {
			t.Errorf("%s tells whose it is", name)
		}
	}
	if found["oversqlite.queue.age"] == 0 || found["oversqlite.request.sent operation=upload push chunk"] == 0 || found["oversqlite.request.received operation=pull"] == 0 {
		t.Errorf("%v", found)
	}
}

// What an ordinary day does not bring.
func TestEveryInstrument(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	m, err := otelmetrics.New(sdk.NewMeterProvider(sdk.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	m.Conflict("keep_local")
	m.Quarantined("server", 3)
	m.Rows(oversqlite.WaySnapshot, 7)
	m.Rows(oversqlite.WaySnapshot, 7)
	m.Bundles(oversqlite.WayPulled, 2)
	found := points(t, reader)
	for want, n := range map[string]int64{
		"oversqlite.conflicts resolution=keep_local": 1, "oversqlite.quarantined origin=server": 3, "oversqlite.rows way=snapshot": 14, "oversqlite.bundles way=pulled": 2,
	} {
		if found[want] != n {
			t.Errorf("%s is %d, want %d", want, found[want], n)
		}
	}
}

func TestAProviderThatRefuses(t *testing.T) {
	t.Parallel()
	if _, err := otelmetrics.New(refusing{}); err == nil {
		t.Fatal("an error of the provider is lost")
	}
}

type refusing struct{ embedded.MeterProvider }

func (refusing) Meter(string, ...metric.MeterOption) metric.Meter { return refusingMeter{} }

type refusingMeter struct{ noop.Meter }

func (refusingMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return nil, errors.New("no")
}

// bearer adds credentials.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
