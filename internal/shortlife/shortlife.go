// Package shortlife makes a program start faster that lives for two milliseconds and has
// one thing to do: it has a large stack at once. Each growth copies the stack, and reads
// the tables by which pointers in it are found, a page for every function. Of viarule-sbr's
// ADD that is 3 %. A main imports the package for that alone. It imports nothing, so that
// the linker puts it before all packages that have something to set up.
//
// Tried as well: one P (GOMAXPROCS(1)), so that goroutines which packages start wake no
// threads. It takes 5 % of the processor's time off, and nothing of the time that passes,
// since the world has to be stopped for it.
package shortlife

func init() { grow(false) }

// room is more than the stack of a call takes.
const room = 20 << 10

// grow has room on its stack, which is there from then on. It is written to only if touch
// says so: pages that nobody touches cost nothing.
//
//go:noinline
func grow(touch bool) byte {
	if !touch {
		return 0
	}
	var b [room]byte
	for i := range b {
		b[i] = byte(i)
	}
	return b[len(b)/2]
}
