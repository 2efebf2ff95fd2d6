package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
)

// read tells what is in a file or folder, or why it cannot.
func read(path string) string {
	if entries, err := os.ReadDir(path); err == nil {
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return "a folder: " + strings.Join(names, " ")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "error: " + err.Error()
	}
	return "a file: " + string(content)
}

// reach tells for each address whether something listens there.
func reach(ctx context.Context, addresses []string) map[string]string {
	found := map[string]string{}
	for _, address := range addresses {
		dialer := net.Dialer{Timeout: 2 * time.Second}
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			found[address] = "error: " + err.Error()
			continue
		}
		_ = c.Close()
		found[address] = "reached"
	}
	return found
}

// get tells what each URL answers, by the way out that the environment names.
func get(ctx context.Context, urls []string) map[string]string {
	found := map[string]string{}
	client := &http.Client{Timeout: 30 * time.Second}
	for _, url := range urls {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			found[url] = "error: " + err.Error()
			continue
		}
		if strings.HasSuffix(url, "/credentials") {
			r.Header.Set("Authorization", os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
		}
		response, err := client.Do(r)
		if err != nil {
			found[url] = "error: " + err.Error()
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		_ = response.Body.Close()
		found[url] = fmt.Sprintf("%d %s", response.StatusCode, body)
	}
	return found
}

// processes are those that it sees, by number, with what they run.
func processes() map[string]string {
	found := map[string]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			found[e.Name()] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// environments are those that it can read, of all processes that it sees.
func environments() map[string]string {
	found := map[string]string{}
	for number := range processes() {
		if content, err := os.ReadFile("/proc/" + number + "/environ"); err == nil {
			found[number] = strings.ReplaceAll(string(content), "\x00", "\n")
		} else {
			found[number] = "error: " + err.Error()
		}
	}
	return found
}

// credentials are its role's, as any program of AWS's finds them.
func credentials(ctx context.Context) (any, error) {
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	c, err := loaded.Credentials.Retrieve(ctx)
	return map[string]string{"key": c.AccessKeyID, "secret": c.SecretAccessKey, "token": c.SessionToken, "source": c.Source}, err
}
