package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A provider that limits requests is asked again, as often and as long as this.
const (
	mostRetries = 3
	longestWait = 30 * time.Second
)

// What a gateway tells of a target that answered 429. The header's value is
// either seconds or a date.
var (
	limited    = regexp.MustCompile(`\b429\b`)
	retryAfter = regexp.MustCompile(`(?i)retry-after["']?[:=\s]+["']?(\d{1,9}|[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} [\d:]{8} GMT)`)
)

// call calls the tool; a provider, or a gateway, that limits requests (429) is
// asked again after as long as it says.
func (a *Agent) call(ctx context.Context, params *mcp.CallToolParams) (*mcp.CallToolResult, error) {
	for attempt := 0; ; attempt++ {
		result, err := a.session.CallTool(ctx, params)
		wait, throttled := a.throttled(result, err, attempt)
		switch {
		case !throttled:
			return result, err
		case wait > longestWait:
			return nil, &GatewayError{Problem{What: fmt.Sprintf("the provider limits requests and wants to be asked again in %s", wait.Round(time.Second)), Cause: errThrottled, Hint: hintThrottled}}
		case attempt == mostRetries:
			return nil, &GatewayError{Problem{What: fmt.Sprintf("the provider limits requests, also after %d more tries", mostRetries), Cause: errThrottled, Hint: hintThrottled}}
		}
		if a.Pausing != nil {
			a.Pausing(wait.Round(time.Second).String())
		}
		if pause(ctx, wait) != nil {
			return nil, stopped()
		}
		if result != nil && result.NeedsInput() {
			params.RequestState = result.RequestState
		}
	}
}

// throttled reports whether the answer is "later", and how much later. Where
// nothing says so, the waits are 1, 2 and 4 seconds.
func (a *Agent) throttled(result *mcp.CallToolResult, err error, attempt int) (time.Duration, bool) {
	wait := time.Second << attempt
	if refused := a.transport.refused.Load(); err != nil && refused != nil && refused.status == http.StatusTooManyRequests {
		return afterHeader(refused.retryAfter, wait), true
	}
	if err != nil || result == nil {
		return 0, false
	}
	if result.NeedsInput() && len(result.InputRequests) == 0 { // it needs nothing but time
		return wait, true
	}
	if !result.IsError {
		return 0, false
	}
	text := textOf(result)
	if !limited.MatchString(text) {
		return 0, false
	}
	if match := retryAfter.FindStringSubmatch(text); match != nil {
		wait = afterHeader(match[1], wait)
	}
	return wait, true
}

// afterHeader reads both forms of Retry-After.
func afterHeader(header string, otherwise time.Duration) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(time.Until(at), 0)
	}
	return otherwise
}
