package fault

import (
	"fmt"
	"runtime/debug"
)

// Contain runs fn and turns a panic into an Internal error: one request's bug is
// not another's. Value and stack are in the error's cause, for the log; doing
// ("asking a provider") says in what.
//
// The gate contains each act. A goroutine that is begun for a request stands
// outside of that, where a panic would end the whole platform: whatever it does
// beyond waiting goes through here. What was panicked with, if it is an error,
// is found by errors.Is, but its kind does not count.
func Contain(doing string, fn func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = panicked(doing, fmt.Errorf("panic: %w\n%s", p, debug.Stack()))
		default:
			err = panicked(doing, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return fn()
}

// ContainValue is Contain for what answers something, as flights that several callers share do.
func ContainValue[T any](doing string, fn func() (T, error)) (value T, err error) {
	err = Contain(doing, func() (err error) {
		value, err = fn()
		return err
	})
	return value, err
}

// panicked is an Internal error whatever the cause is.
func panicked(doing string, cause error) error {
	return &Error{Kind: Internal, Message: internalMessage, Cause: fmt.Errorf("%s: %w", doing, cause)}
}
