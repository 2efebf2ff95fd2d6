package main

import (
	"bufio"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/server"
)

// loggedHead finds the members of a head in a line of serve's log, text or JSON,
// whatever the log's own tools have put around it.
var loggedHead = regexp.MustCompile(`audit head.*?writer["=: ]+([^" ,}]+).*?sequence["=: ]+(\d+).*?mac["=: ]+([0-9a-f]{64})`)

// loggedHeads reads the heads of a log file.
func loggedHeads(path string, stdin io.Reader) (heads []server.AuditHead, err error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	lines := bufio.NewReaderSize(in, 1<<16)
	for {
		line, prefix, err := lines.ReadLine()
		if err == io.EOF {
			return heads, nil
		}
		if err != nil {
			return nil, err
		}
		for skip := prefix; skip; { // the rest of a line that is too long to be one of ours
			_, skip, err = lines.ReadLine()
			if err != nil {
				break
			}
		}
		if match := loggedHead.FindStringSubmatch(string(line)); match != nil {
			if head, ok := parseHead(match[1:]); ok {
				heads = append(heads, head)
			}
		}
	}
}

func parseHead(parts []string) (server.AuditHead, bool) {
	if len(parts) != 3 || parts[0] == "" || len(parts[2]) != 64 {
		return server.AuditHead{}, false
	}
	sequence, err := strconv.ParseInt(parts[1], 10, 64)
	return server.AuditHead{Writer: parts[0], Sequence: sequence, MAC: strings.ToLower(parts[2])}, err == nil && sequence > 0
}
