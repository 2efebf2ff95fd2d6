package fault

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestContainedPanicIsAnInternalError(t *testing.T) {
	t.Parallel()
	err := Contain("counting", func() error { panic("off by one") })
	if !Is(err, Internal) || strings.Contains(Of(err).Message, "off by one") {
		t.Errorf("%v", err)
	}
	for _, part := range []string{"counting: ", "off by one", "contain_test.go"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the log would not say %q: %v", part, err)
		}
	}
}

func TestContainedPanicWithAnError(t *testing.T) {
	t.Parallel()
	err := Contain("counting", func() error { panic(New(Denied, "Not you.").Because(io.EOF)) })
	if !Is(err, Internal) || strings.Contains(Of(err).Message, "Not you") || !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	var nobody *Error
	if err := Contain("counting", func() error { _ = nobody.Message; return nil }); !Is(err, Internal) || !strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("%v", err)
	}
}

func TestContainPassesOnWhatFnSays(t *testing.T) {
	t.Parallel()
	if err := Contain("counting", func() error { return nil }); err != nil {
		t.Error(err)
	}
	denied := New(Denied, "Not you.")
	if err := Contain("counting", func() error { return denied }); err != error(denied) {
		t.Error(err)
	}
}
