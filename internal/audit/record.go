package audit

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// Record is one act: who did what, for whom, through what, and how it ended.
// Nothing in it is a secret; Detail's values are masked once more on their way in.
type Record struct {
	Time          time.Time         `json:"time"`    // when the act had ended; zero is now. Kept in whole microseconds, UTC
	Account       string            `json:"account"` // the tenant; empty becomes Platform
	RequestID     string            `json:"request,omitempty"`
	PrincipalKind string            `json:"kind,omitempty"`       // principal.Kind: key, role, bearer, anonymous, browser, system
	Principal     string            `json:"principal,omitempty"`  // ARN, or principal.User in one line
	KeyID         string            `json:"key,omitempty"`        // access key id
	Workload      string            `json:"workload,omitempty"`   // ARN of the workload identity acted through
	WorkloadID    string            `json:"workloadId,omitempty"` // its immutable id: a re-created name has another one
	User          string            `json:"user,omitempty"`       // principal.User in one line: the person acted for
	Authorizer    string            `json:"authorizer,omitempty"` // ARN of the gateway or runtime that vouched for User
	Action        string            `json:"action"`               // "bedrock-agentcore:GetResourceOauth2Token"
	Resources     []string          `json:"resources,omitempty"`  // ARNs
	Decision      string            `json:"decision"`             // Allow or Deny
	Phase         string            `json:"phase"`                // Intent or Done
	Outcome       string            `json:"outcome,omitempty"`    // OK or a fault.Kind's name; empty for an Intent
	Detail        map[string]string `json:"detail,omitempty"`     // what the room added: grant id, provider, session outcome
	Address       string            `json:"address,omitempty"`    // the client's
}

// The words of Decision, Phase and Outcome.
const (
	Allow = "allow" // Decision: it was permitted
	Deny  = "deny"  // Decision: it was refused, and nothing ran

	Intent = "intent" // Phase: it is about to happen, and has an effect outside
	Done   = "done"   // Phase: it has ended

	OK = "ok" // Outcome: it went well
)

// Platform is the account of what concerns no tenant, and of the chains' own key.
const Platform = seal.Platform

// Limits keep a hostile name from filling the disk. What is cut ends in "…".
const (
	longestField  = 2048 // bytes: an ARN's limit, the longest thing that belongs here
	longestKey    = 64   // bytes of a detail's name
	longestDetail = 1024 // bytes of a detail's value
	mostDetails   = 32
	mostResources = 32
)

// prepare brings a record into the form that is kept: masked, bounded, valid
// UTF-8 without NUL (which PostgreSQL's text cannot hold).
func (r *Record) prepare() error {
	if r.Action == "" || r.Decision != Allow && r.Decision != Deny || r.Phase != Intent && r.Phase != Done {
		return fault.Wrap(errIncomplete, "recording an act")
	}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Time = r.Time.UTC().Truncate(time.Microsecond)
	if r.Account == "" {
		r.Account = Platform
	}
	for _, text := range []*string{&r.Account, &r.RequestID, &r.PrincipalKind, &r.Principal, &r.KeyID, &r.Workload, &r.WorkloadID,
		&r.User, &r.Authorizer, &r.Action, &r.Outcome, &r.Address} {
		*text = clean(*text, longestField)
	}
	r.prepareResources()
	r.prepareDetail()
	return nil
}

func (r *Record) prepareResources() {
	if len(r.Resources) == 0 {
		r.Resources = nil
		return
	}
	kept := make([]string, 0, len(r.Resources))
	for _, resource := range r.Resources[:min(len(r.Resources), mostResources)] {
		if resource = clean(resource, longestField); !slices.Contains(kept, resource) {
			kept = append(kept, resource)
		}
	}
	r.Resources = kept
}

func (r *Record) prepareDetail() {
	if len(r.Detail) == 0 {
		r.Detail = nil
		return
	}
	kept := make(map[string]string, len(r.Detail)) // the caller's map is the caller's
	for key, value := range r.Detail {
		kept[clean(key, longestKey)] = clean(Mask(value), longestDetail)
	}
	if len(kept) > mostDetails {
		for _, key := range slices.Sorted(maps.Keys(kept))[mostDetails:] {
			delete(kept, key)
		}
	}
	r.Detail = kept
}

// clean bounds a text and takes out what a database's text cannot hold. Nearly
// every text is returned as it is.
func clean(s string, longest int) string {
	s = cut(s, longest)
	for i := 0; i < len(s); i++ {
		if s[i] == 0 || s[i] >= utf8.RuneSelf {
			return cut(strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd"), longest) // each may have made it longer
		}
	}
	return s
}

// cut shortens a text to so many bytes, between two characters.
func cut(s string, longest int) string {
	if len(s) <= longest {
		return s
	}
	end := longest - len("…")
	for back := 0; back < utf8.UTFMax-1 && !utf8.RuneStart(s[end]); back++ {
		end--
	}
	return s[:end] + "…"
}

// text is the canonical JSON of a prepared record: the members in the order of
// Record, absent where empty, details sorted. It is how a record is shown and
// exported; earlier versions stored it.
func (r *Record) text() string {
	b := make([]byte, 0, 768)
	b = append(b, `{"time":"`...)
	b = r.Time.AppendFormat(b, timeFormat)
	b = append(b, '"')
	b = appendMember(b, "account", r.Account)
	b = appendMember(b, "request", r.RequestID)
	b = appendMember(b, "kind", r.PrincipalKind)
	b = appendMember(b, "principal", r.Principal)
	b = appendMember(b, "key", r.KeyID)
	b = appendMember(b, "workload", r.Workload)
	b = appendMember(b, "workloadId", r.WorkloadID)
	b = appendMember(b, "user", r.User)
	b = appendMember(b, "authorizer", r.Authorizer)
	b = appendMember(b, "action", r.Action)
	b = r.appendResources(b)
	b = appendMember(b, "decision", r.Decision)
	b = appendMember(b, "phase", r.Phase)
	b = appendMember(b, "outcome", r.Outcome)
	b = r.appendDetail(b)
	b = appendMember(b, "address", r.Address)
	return string(append(b, '}'))
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

func (r *Record) appendResources(b []byte) []byte {
	if len(r.Resources) == 0 {
		return b
	}
	b = append(b, `,"resources":`...)
	for i, resource := range r.Resources {
		b = append(b, separator('[', i))
		b = appendQuoted(b, resource)
	}
	return append(b, ']')
}

func (r *Record) appendDetail(b []byte) []byte {
	if len(r.Detail) == 0 {
		return b
	}
	var few [8]string // sorted without an allocation in the everyday case
	keys := few[:0]
	for key := range r.Detail {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	b = append(b, `,"detail":`...)
	for i, key := range keys {
		b = append(b, separator('{', i))
		b = appendQuoted(b, key)
		b = append(b, ':')
		b = appendQuoted(b, r.Detail[key])
	}
	return append(b, '}')
}

func separator(opening byte, i int) byte {
	if i == 0 {
		return opening
	}
	return ','
}

func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendQuoted(b, value)
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes a JSON string. The text is valid UTF-8 already; only what
// JSON demands is escaped.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		if c < ' ' {
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, '\\', c)
		}
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// decodeText reads a record that an earlier version stored.
func decodeText(text []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, err
	}
	return r, nil
}
