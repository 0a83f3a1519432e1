package cni

import (
	"context"
	"sync"
	"time"
)

// Within is a context that ends after a while. Its timer, for which the runtime starts a
// thread, is only there once somebody waits: most calls never do.
func Within(d time.Duration) context.Context {
	return &within{Context: context.Background(), end: time.Now().Add(d)}
}

type within struct {
	context.Context
	end  time.Time
	once sync.Once
	done chan struct{}
}

func (w *within) Deadline() (time.Time, bool) { return w.end, true }

func (w *within) Done() <-chan struct{} {
	w.once.Do(func() {
		w.done = make(chan struct{})
		time.AfterFunc(time.Until(w.end), func() { close(w.done) })
	})
	return w.done
}

func (w *within) Err() error {
	if time.Now().Before(w.end) {
		return nil
	}
	return context.DeadlineExceeded
}
