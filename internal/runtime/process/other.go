//go:build !linux

package process

import (
	"context"
	"errors"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// errNotHere is what this package can do on systems without namespaces.
var errNotHere = errors.New("sessions cannot be isolated on this machine: that needs Linux and its namespaces")

// Driver runs nothing here.
type Driver struct{}

// New says that there is no such driver here.
func New(context.Context) (*Driver, error) { return nil, errNotHere }

// About says so in a line.
func (*Driver) About() string { return errNotHere.Error() }

// Start starts nothing.
func (*Driver) Start(context.Context, runtime.Launch) (runtime.Process, error) {
	return nil, errNotHere
}
