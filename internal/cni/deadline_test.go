package cni

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := Deadline(time.Minute)
		if at, ok := ctx.Deadline(); !ok || time.Until(at) != time.Minute || ctx.Err() != nil {
			t.Errorf("%v, %t, %v", at, ok, ctx.Err())
		}
		// Waited for by itself, and by a child.
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		<-child.Done()
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("%v, %v", ctx.Err(), child.Err())
		}
	})
}
