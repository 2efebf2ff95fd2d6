// Package leaktest fails the tests of a package that leave a goroutine running.
// It waits longer than goleak does by itself: what has been stopped may take its
// time on a busy machine.
package leaktest

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

// patience is how long what has been stopped may take.
const patience = time.Minute

// Exit ends a TestMain with what m.Run answered, or with 1 where the tests passed
// and something of them runs on.
func Exit(code int) {
	for deadline := time.Now().Add(patience); code == 0; time.Sleep(10 * time.Millisecond) {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
