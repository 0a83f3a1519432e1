// Package guard undoes an apply that nobody confirms.
//
// `viarule apply --confirm 60s` arms a guard before its first write: a journal
// beside the namespace's records says what to go back to and when, and a process
// of its own, running from a copy of the program, has read the journal and said
// so. Where systemd runs, that process is the service of a transient timer unit;
// elsewhere it is a child in a session and in control groups of its own, which
// neither the death of the shell, nor a signal to its process group, nor
// cgroup.kill reaches. It sleeps on the boot clock, which goes on in suspend.
//
// Who holds the namespace's lock decides: Confirm and the guard's undo both need
// it, so exactly one of them happens. The guard takes it by itself; every other
// function here that writes says whether its caller must hold it. An apply that
// still holds the lock some seconds after the deadline is stuck (on the dead
// connection that it cut off, say) and is killed.
//
// Were the guard killed after all, the journal is still there: Recover, which
// each start of viarule calls, undoes what has expired. A journal of an earlier
// boot is only dropped, since nothing of that kernel's state is left.
//
// The undo is a reverse plan (plan.Undo) of viarule's own objects and of those
// that the apply took over. What anybody else changed meanwhile stays.
package guard
