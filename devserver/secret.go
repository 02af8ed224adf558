package devserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// secretFile is where a folder keeps what its tokens are signed with. No user's database has a name without ".db".
const secretFile = "token-secret"

const secretBytes = 32

func newSecret() []byte {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // never fails
	return secret
}

// keptSecret returns the secret of a folder, and makes one where there is none: a restart is to be a pause for clients, not
// the end of their tokens.
func keptSecret(dir string) ([]byte, error) {
	path := filepath.Join(dir, secretFile)
	secret, err := os.ReadFile(path) //nolint:gosec // the folder is the operator's choice
	switch {
	case errors.Is(err, fs.ErrNotExist):
		secret = newSecret()
		return secret, writeWhole(path, secret)
	case err == nil && len(secret) < secretBytes:
		return nil, fmt.Errorf("%s is too short to be a secret; remove it to have a new one made, with which tokens end", path)
	}
	return secret, err
}

// writeWhole writes a file that only its owner may read, all of it or none.
func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
