package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func itemsOf[T any](items []T, err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			var none T
			yield(none, err)
		}
	}
}

// A name cannot move the cursor, forge a row or turn the reading direction.
func TestTableObeysNobody(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	names := []string{"ada\x1b[2K\x1b[1A", "grace\nmallory  ACTIVE", "a\u202eb", "\u200bzero", "c1\u009b31m", "bad\xff", "ü 日本"}
	err := list(&terminal{out: &out}, "table", columns("NAME", "STATE~"), func(s string) []string { return []string{s, "ACTIVE"} }, "", itemsOf(names, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`NAME                    STATE`,
		`ada\x1b[2K\x1b[1A       ACTIVE`,
		`grace\x0amallory  ACTIVE  ACTIVE`,
		`a\u{202e}b              ACTIVE`,
		`\u{200b}zero            ACTIVE`,
		`c1\x9b31m               ACTIVE`,
		`bad\xff                 ACTIVE`,
		`ü 日本                    ACTIVE`,
	}
	got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for i := range want { // the width of the first column is that of its longest cell
		want[i] = strings.Join(strings.Fields(want[i]), " ")
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJSONObeysNobody(t *testing.T) {
	t.Parallel()
	names := []string{"\x1b[2J", "\u009b31m", "a\u202eb", "\U000e0041tag", "<b>&", "line\nbreak", "\u2028", "\x7f"}
	var out bytes.Buffer
	if err := list(&terminal{out: &out}, "json", nil, nil, "", itemsOf(names, nil)); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && obeyed(r) }); i >= 0 {
		t.Errorf("%q is sent to the terminal", out.String()[i:])
	}
	var back []string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names, back); diff != "" {
		t.Error(diff)
	}
}

// A list that breaks off is no shorter list.
func TestBrokenList(t *testing.T) {
	t.Parallel()
	broken := errors.New("gone")
	var out bytes.Buffer
	if err := list(&terminal{out: &out}, "json", nil, nil, "", itemsOf([]int{1, 2}, broken)); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	if json.Valid(out.Bytes()) {
		t.Errorf("%s reads as the whole", &out)
	}
	out.Reset()
	row := func(i int) []string { return []string{strconv.Itoa(i)} }
	if err := list(&terminal{out: &out}, "table", columns("N"), row, "", itemsOf([]int{1, 2}, broken)); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	if out.String() != "N\n1\n2\n" {
		t.Errorf("of what came, %q is shown", &out)
	}
}

// Every row is printed once, also those that come after the widths are set, and the heads once.
func TestLongTable(t *testing.T) {
	t.Parallel()
	var items []int
	for i := range 3 * widthSample {
		items = append(items, i)
	}
	items = append(items, 1_000_000_000) // wider than anything measured
	var out bytes.Buffer
	row := func(i int) []string { return []string{strconv.Itoa(i), "x"} }
	if err := list(&terminal{out: &out}, "table", columns("N", "X"), row, "", itemsOf(items, nil)); err != nil {
		t.Fatal(err)
	}
	want := []string{"N X"}
	for _, i := range items {
		want = append(want, strconv.Itoa(i)+" x")
	}
	got := slices.Collect(strings.Lines(out.String()))
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLimitAsksForNoMore(t *testing.T) {
	t.Parallel()
	fetched := 0
	all := pages(func() ([]int, bool, error) { fetched++; return []int{1, 2}, true, nil })
	var got []int
	for i, err := range first(listing{Limit: 4}, all) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i)
	}
	if fetched != 2 || len(got) != 4 {
		t.Errorf("%d pages for %v", fetched, got)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for want, at := range map[string]time.Time{
		"never": {}, "now": now, "59s ago": now.Add(-59 * time.Second), "3m ago": now.Add(-3*time.Minute - time.Second), "47h ago": now.Add(-47 * time.Hour),
		"2d ago": now.Add(-48 * time.Hour), "3y ago": now.AddDate(-3, 0, -1), "in 52m": now.Add(52*time.Minute + time.Second),
	} {
		if got := ago(&at, now); got != want {
			t.Errorf("%s is shown as %q, want %q", at, got, want)
		}
	}
}

// A hint that is made to be pasted holds nothing but what such names are made of.
func TestExplainHint(t *testing.T) {
	t.Parallel()
	const tail = " is not authorized to perform: bedrock-agentcore:GetGateway on resource: arn:aws:bedrock-agentcore:us-east-1:1:gateway/* because no"
	for message, want := range map[string]string{
		"User: arn:aws:iam::1:user/ada" + tail:                   "--principal arn:aws:iam::1:user/ada --action bedrock-agentcore:GetGateway --resource 'arn:aws:bedrock-agentcore:us-east-1:1:gateway/*'",
		"User: arn:aws:sts::1:assumed-role/agent/session" + tail: "--principal arn:aws:iam::1:role/agent --action",
		"User: jwt:https://idp#ada" + tail:                       "",
		"User: $(reboot)" + tail:                                 "",
		"User: a;reboot" + tail:                                  "",
		"User: a\nreboot" + tail:                                 "",
		"no":                                                     "",
	} {
		got := explainHint(message)
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q makes %q, want %q", message, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{"localhost": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true, "10.0.0.1": false, "localhost.example.com": false, "": false} {
		if loopback(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}
