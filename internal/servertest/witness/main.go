// Command witness is an agent of tests: it tells what a session finds, and does
// from within what it is asked for.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// order is what a test asks for.
type order struct {
	Print   string            // prints it
	Fetch   string            // asks for the URL, and tells the answer
	Method  string            // of Fetch
	Headers map[string]string // of Fetch
	Host    string            // of Fetch
	Body    string            // of Fetch
	Exit    int               // ends, with this code, after so many milliseconds of Wait
	Wait    int
}

type told struct {
	Status      int
	Body        string
	Environment []string
	Process     int
}

func main() {
	if os.Getenv("STUBBORN") != "" {
		signal.Ignore(syscall.SIGTERM)
	}
	http.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"Healthy"}`) })
	http.HandleFunc("/invocations", func(w http.ResponseWriter, r *http.Request) {
		var o order
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := obey(o)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	if err := http.ListenAndServe(":"+os.Getenv("PORT"), nil); err != nil {
		panic(err)
	}
}

func obey(o order) (out told, err error) {
	out.Environment, out.Process = os.Environ(), os.Getpid()
	if o.Print != "" {
		fmt.Println(o.Print)
	}
	time.Sleep(time.Duration(o.Wait) * time.Millisecond)
	if o.Exit != 0 {
		os.Exit(o.Exit)
	}
	if o.Fetch == "" {
		return out, nil
	}
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	r, err := http.NewRequest(o.Method, o.Fetch, strings.NewReader(o.Body))
	if err != nil {
		return out, err
	}
	for name, value := range o.Headers {
		r.Header.Set(name, value)
	}
	r.Host = o.Host
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, err = io.Copy(&body, response.Body)
	out.Status, out.Body = response.StatusCode, body.String()
	return out, err
}
