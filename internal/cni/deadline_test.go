package cni

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := Within(time.Minute)
		if end, ok := ctx.Deadline(); !ok || time.Until(end) != time.Minute || ctx.Err() != nil {
			t.Errorf("%v, %t, %v", end, ok, ctx.Err())
		}
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		time.Sleep(59 * time.Second)
		select {
		case <-ctx.Done():
			t.Error("it ended before its time")
		default:
		}
		<-child.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("%v, %v", ctx.Err(), child.Err())
		}
	})
}
