package api

import (
	"encoding/json"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Decode reads a JSON body into a request. Unknown members are ignored.
func Decode(body []byte, into any) ([]fault.Field, error) {
	if err := json.Unmarshal(body, into); err != nil {
		return nil, unreadable("body", "JSON")
	}
	return nil, nil
}
