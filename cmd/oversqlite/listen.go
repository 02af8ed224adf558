package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"time"
)

// listener serves a handler on a local address until it is closed.
type listener struct {
	url    string
	server *http.Server
	done   chan error
}

// listen starts serving on addr. Port 0 takes a free one.
func listen(addr string, handler http.Handler) (*listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &listener{
		url: "http://" + l.Addr().String(), done: make(chan error, 1),
		server: &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
			ErrorLog: log.New(discard{}, "", 0), // it reports every connection that a fault cuts
		},
	}
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

// close stops taking requests and gives those under way a moment to end.
func (s *listener) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		_ = s.server.Close()
	}
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
