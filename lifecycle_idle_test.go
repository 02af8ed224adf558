package oversqlite_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

// An engine that is made is no goroutine; neither is one that was. This test is not parallel: it counts all there are.
func TestAnEngineThatIsNotOpenIsNoGoroutine(t *testing.T) {
	var engines []*oversqlite.Engine
	create := func() {
		e, err := oversqlite.New(oversqlite.Config{
			Path: t.TempDir() + "/x.db", Schema: "business", ServerURL: "http://127.0.0.1:1",
			Tables: []oversqlite.Table{{Name: "notes", Key: "id"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		engines = append(engines, e)
	}
	create() // the first begins the actor system
	before := runtime.NumGoroutine()
	for range 50 {
		create()
	}
	// Actors that have just begun are a moment on their way to sleep.
	more := func() int { return runtime.NumGoroutine() - before }
	for end := time.Now().Add(10 * time.Second); more() > 5 && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := more(); n > 5 {
		t.Errorf("50 engines are %d goroutines", n)
	}
	for _, e := range engines {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
