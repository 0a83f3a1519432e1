package cni

import (
	"context"
	"sync"
	"time"
)

// Deadline is a context that ends when a time is up. It has a timer only once somebody
// waits for it: a timer starts Go's poller, with an epoll, an eventfd and a thread, which
// is a twentieth of what a program without it spends.
func Deadline(after time.Duration) context.Context {
	return &deadline{Context: context.Background(), at: time.Now().Add(after)}
}

type deadline struct {
	context.Context
	at   time.Time
	once sync.Once
	wait context.Context
	stop context.CancelFunc // never called: the program does not live longer than its call
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

func (d *deadline) Err() error {
	if time.Now().Before(d.at) {
		return nil
	}
	return context.DeadlineExceeded
}

func (d *deadline) Done() <-chan struct{} {
	d.once.Do(func() { d.wait, d.stop = context.WithDeadline(d.Context, d.at) })
	return d.wait.Done()
}
