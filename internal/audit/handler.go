package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/onbehalf/onbehalf/internal/principal"
)

// NewHandler puts Mask in front of a slog handler: over messages, string
// attributes, errors, nested groups, and whatever else would be printed. The
// rule is secret.Text at the source; this is the net for what slips through,
// such as an error of a library that quotes a URL. Each line of a request gets
// the request's id.
func NewHandler(inner slog.Handler) slog.Handler { return &handler{inner} }

type handler struct{ inner slog.Handler }

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

// requestKey is the attribute under which a line names its request.
const requestKey = "request_id"

// withRequest adds the id of the request under way, which its client got as
// x-amzn-RequestId, to a line that does not have it.
func withRequest(ctx context.Context, r slog.Record) slog.Record {
	id := principal.RequestOf(ctx).ID
	if id == "" {
		return r
	}
	has := false
	r.Attrs(func(a slog.Attr) bool {
		has = a.Key == requestKey
		return !has
	})
	if !has {
		r = r.Clone()
		r.AddAttrs(slog.String(requestKey, id))
	}
	return r
}

// Handle passes an ordinary record on as it is, and otherwise a masked copy.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	r = withRequest(ctx, r)
	message := Mask(r.Message)
	hit := message != r.Message
	if !hit {
		r.Attrs(func(a slog.Attr) bool {
			_, hit = maskAttr(a)
			return !hit
		})
	}
	if !hit {
		return h.inner.Handle(ctx, r)
	}
	clean := slog.NewRecord(r.Time, r.Level, message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a, _ = maskAttr(a)
		clean.AddAttrs(a)
		return true
	})
	return h.inner.Handle(ctx, clean)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs, _ = maskAttrs(attrs)
	return &handler{h.inner.WithAttrs(attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler { return &handler{h.inner.WithGroup(name)} }

// maskAttrs returns the attributes themselves where none is touched.
func maskAttrs(attrs []slog.Attr) (out []slog.Attr, hit bool) {
	out = attrs
	for i, a := range attrs {
		clean, changed := maskAttr(a)
		if !changed {
			continue
		}
		if !hit {
			out, hit = append([]slog.Attr(nil), attrs...), true
		}
		out[i] = clean
	}
	return out, hit
}

func maskAttr(a slog.Attr) (slog.Attr, bool) {
	resolved := a.Value.Resolve() // catches panics of LogValue itself
	hit := a.Value.Kind() == slog.KindLogValuer
	a.Value = resolved
	switch resolved.Kind() {
	case slog.KindString:
		text := resolved.String()
		clean := text
		if secretKey(a.Key) && text != "" {
			clean = masked
		} else {
			clean = Mask(text)
		}
		if clean != text {
			a.Value, hit = slog.StringValue(clean), true
		}
	case slog.KindGroup:
		if attrs, changed := maskAttrs(resolved.Group()); changed {
			a.Value, hit = slog.GroupValue(attrs...), true
		}
	case slog.KindAny:
		if clean, changed := maskAny(a.Key, resolved.Any()); changed {
			a.Value, hit = slog.StringValue(clean), true
		}
	}
	return a, hit
}

// secretKey reports whether an attribute is named like a secret. A string under
// such a name should have been a secret.Text.
func secretKey(key string) bool {
	if len(key) < 6 || len(key) > longestName { // the shortest of secretNames has 6 letters
		return false
	}
	var buffer [longestName]byte
	return hasSuffix(normal(buffer[:0], key), secretNames)
}

// maskAny looks at a value as the text handler and as the JSON handler would
// print it: the one follows no pointers, the other calls no String methods.
func maskAny(key string, v any) (text string, hit bool) {
	defer func() {
		if recover() != nil { // in a String, Error or MarshalJSON method
			text, hit = "[unprintable]", true
		}
	}()
	switch x := v.(type) {
	case nil:
		return "", false
	case []byte:
		text = string(x)
	case json.RawMessage:
		text = string(x)
	default:
		text = fmt.Sprintf("%+v", v)
	}
	if secretKey(key) && text != "" && text != masked {
		return masked, true
	}
	if clean := Mask(text); clean != text {
		return clean, true
	}
	if _, failed := v.(error); failed {
		if _, marshals := v.(json.Marshaler); !marshals {
			return "", false
		}
	}
	if encoded, err := json.Marshal(v); err == nil {
		if clean := Mask(string(encoded)); clean != string(encoded) {
			return clean, true
		}
	}
	return "", false
}
