package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// EpochTime is a time that the wire carries as a number of seconds since 1970,
// with a fraction down to milliseconds. The zero EpochTime is absent.
type EpochTime struct{ time.Time }

// ISOTime is a time that the wire carries as an RFC 3339 string in UTC. The
// zero ISOTime is absent.
type ISOTime struct{ time.Time }

// Epoch makes the time of an identity operation's answer.
func Epoch(t time.Time) EpochTime { return EpochTime{t} }

// ISO makes the time of a gateway, runtime or policy operation's answer.
func ISO(t time.Time) ISOTime { return ISOTime{t} }

// AppendJSON appends seconds, with milliseconds where there are any.
func (t EpochTime) AppendJSON(b []byte) []byte {
	milliseconds := t.UnixMilli()
	if milliseconds < 0 {
		return strconv.AppendFloat(b, float64(milliseconds)/1000, 'f', -1, 64)
	}
	b = strconv.AppendInt(b, milliseconds/1000, 10)
	fraction := milliseconds % 1000
	if fraction == 0 {
		return b
	}
	b = append(b, '.', byte('0'+fraction/100))
	if fraction%100 != 0 {
		b = append(b, byte('0'+fraction/10%10))
	}
	if fraction%10 != 0 {
		b = append(b, byte('0'+fraction%10))
	}
	return b
}

// MarshalJSON is AppendJSON for encoding/json.
func (t EpochTime) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON takes a number of seconds; null is the zero time.
func (t *EpochTime) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || math.IsNaN(seconds) || math.Abs(seconds) > 1e11 {
		return fmt.Errorf("%.40q is no number of seconds", data)
	}
	t.Time = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	return nil
}

// AppendJSON appends an RFC 3339 string in UTC.
func (t ISOTime) AppendJSON(b []byte) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// MarshalJSON is AppendJSON for encoding/json.
func (t ISOTime) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON takes an RFC 3339 string; null is the zero time.
func (t *ISOTime) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return err
	}
	t.Time = parsed.UTC()
	return nil
}
