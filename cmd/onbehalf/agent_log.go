package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// The agent SDKs log a JSON object a line. For a person it is a line of text again.

// hiddenFields are said elsewhere, or are of no use to a person.
var hiddenFields = map[string]bool{"timestamp": true, "time": true, "level": true, "message": true, "msg": true, "logger": true, "location": true, "stackTrace": true}

// readable is a line of an agent for people.
func readable(t *terminal, line string) string {
	var fields map[string]any
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &fields) != nil {
		return tabbed(line)
	}
	message, isText := either(fields, "message", "msg").(string)
	if !isText {
		return tabbed(line)
	}
	level, _ := fields["level"].(string)
	var text strings.Builder
	if level != "" {
		begin, end := colors(t, level)
		fmt.Fprintf(&text, "%s%-5s%s ", begin, plain(level), end)
	} else if strings.HasPrefix(message, "[onbehalf]") {
		text.WriteString("| ") // so begin the platform's own lines, and no agent's
	}
	text.WriteString(tabbed(message))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if hiddenFields[name] || fields[name] == nil || fields[name] == "" {
			continue
		}
		value, isText := fields[name].(string)
		if !isText {
			shown, err := json.Marshal(fields[name])
			if err != nil {
				continue
			}
			value = string(shown)
		}
		fmt.Fprintf(&text, "  %s=%s", plain(name), plain(value))
	}
	for l := range strings.Lines(trace(fields["stackTrace"])) {
		text.WriteString("\n    " + tabbed(strings.TrimRight(l, "\r\n")))
	}
	return text.String()
}

// readableLines is an error that ends with an agent's lines, without colours: an error is told as plain text.
func readableLines(text string) string {
	shown := strings.Split(text, "\n")
	for i, line := range shown {
		shown[i] = readable(&terminal{out: io.Discard}, line)
	}
	return strings.Join(shown, "\n")
}

// trace is a stack trace: a text, or pieces of one, as Python has it.
func trace(value any) string {
	pieces, _ := value.([]any)
	if text, is := value.(string); is {
		pieces = []any{text}
	}
	var all strings.Builder
	for _, piece := range pieces {
		text, _ := piece.(string)
		all.WriteString(text)
	}
	return all.String()
}

func either(fields map[string]any, names ...string) any {
	for _, name := range names {
		if value, there := fields[name]; there {
			return value
		}
	}
	return nil
}

// colors are those of a level, at a terminal.
func colors(t *terminal, level string) (begin, end string) {
	if !colored(t.out) {
		return "", ""
	}
	switch strings.ToUpper(level) {
	case "ERROR", "CRITICAL", "FATAL":
		return "\x1b[31m", "\x1b[0m"
	case "WARN", "WARNING":
		return "\x1b[33m", "\x1b[0m"
	case "DEBUG":
		return "\x1b[2m", "\x1b[0m"
	}
	return "\x1b[32m", "\x1b[0m"
}
