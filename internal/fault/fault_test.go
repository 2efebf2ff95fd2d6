package fault_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// An error that nobody classified is Internal, and its text is for the log alone.
func TestUnclassifiedErrorsAreInternal(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"wrapped":  fault.Wrap(io.ErrUnexpectedEOF, "reading the answer"),
		"found":    fault.Of(io.ErrUnexpectedEOF),
		"foreign":  fmt.Errorf("outer: %w", io.ErrUnexpectedEOF),
		"zero":     &fault.Error{},
		"no words": errors.New(""),
	} {
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s is %v", name, fault.KindOf(err))
		}
		if message := fault.Of(err).Message; strings.Contains(message, "EOF") {
			t.Errorf("%s shows its cause: %q", name, message)
		}
	}
	if !errors.Is(fault.Wrap(io.EOF, "x"), io.EOF) {
		t.Error("the cause is lost")
	}
}

// A classified error keeps its kind however often it is wrapped on its way up.
func TestKindSurvivesWrapping(t *testing.T) {
	t.Parallel()
	inner := fault.New(fault.NotFound, "Workload %s not found.", "w").Because(io.EOF)
	err := fault.Wrap(fmt.Errorf("doing: %w", inner), "doing more")
	if !fault.Is(err, fault.NotFound) || fault.Of(err).Message != "Workload w not found." || !errors.Is(err, io.EOF) {
		t.Errorf("got %v, %q", fault.KindOf(err), fault.Of(err).Message)
	}
	if fault.Wrap(nil, "nothing") != nil || fault.Of(nil) != nil || fault.Is(nil, fault.Internal) {
		t.Error("no error became one")
	}
}

// Each kind has a name of its own: logs, records and metrics tell kinds apart by it.
func TestKindNames(t *testing.T) {
	t.Parallel()
	seen := map[string]fault.Kind{}
	for kind := fault.Internal; kind <= fault.ExpiredToken; kind++ {
		name := kind.String()
		if other, taken := seen[name]; taken {
			t.Errorf("kinds %d and %d are both called %q", other, kind, name)
		}
		seen[name] = kind
	}
	if got := fault.Kind(200).String(); got != "internal" {
		t.Errorf("an unknown kind is called %q", got)
	}
}

func TestInvalidFieldNamesTheField(t *testing.T) {
	t.Parallel()
	err := fault.InvalidField("scopes", "Scope %q has a space.", "a b")
	if err.Kind != fault.Invalid || len(err.Fields) != 1 || err.Fields[0].Name != "scopes" || err.Fields[0].Message != err.Message {
		t.Errorf("got %+v", err)
	}
}
