package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// load drives one side with a number of connections for a while. Each worker
// makes its request anew (and signs it, where make signs), so that both sides
// cost the generator the same.
type load struct {
	client *http.Client
	make   func(ctx context.Context) (*http.Request, error)
	check  func(body []byte) error // nil: the status is enough
}

func newClient(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: connections * 2, MaxIdleConnsPerHost: connections * 2, DisableCompression: true}}
}

// figures of one round.
type figures struct {
	rate float64 // requests a second
	p50  time.Duration
	p99  time.Duration
}

func (l *load) round(ctx context.Context, connections int, duration time.Duration) (figures, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		first error
	)
	begin := time.Now()
	end := begin.Add(duration)
	for range connections {
		wg.Go(func() {
			times := make([]time.Duration, 0, 1<<14)
			var problem error
			for time.Now().Before(end) && ctx.Err() == nil && problem == nil {
				started := time.Now()
				problem = l.once(ctx)
				times = append(times, time.Since(started))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			if first == nil {
				first = problem
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	if first != nil {
		return figures{}, first
	}
	if len(all) == 0 {
		return figures{}, ctx.Err()
	}
	slices.Sort(all)
	return figures{rate: float64(len(all)) / elapsed.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100]}, nil
}

func (l *load) once(ctx context.Context) error {
	request, err := l.make(ctx)
	if err != nil {
		return err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("%s answered %s: %s", request.URL.Host, response.Status, body)
	}
	if l.check == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return l.check(body)
}

// compare runs the rounds of two sides alternately and returns the medians.
func compare(ctx context.Context, s settings, connections int, product, floor *load) (ours, theirs figures, err error) {
	var a, b []figures
	for _, side := range []*load{product, floor} { // warm up
		if _, err := side.round(ctx, connections, time.Second); err != nil {
			return ours, theirs, err
		}
	}
	for range s.rounds {
		f, err := product.round(ctx, connections, s.duration)
		if err != nil {
			return ours, theirs, err
		}
		a = append(a, f)
		if f, err = floor.round(ctx, connections, s.duration); err != nil {
			return ours, theirs, err
		}
		b = append(b, f)
	}
	return medians(a), medians(b), nil
}

func medians(all []figures) figures {
	return figures{
		rate: median(all, func(f figures) float64 { return f.rate }),
		p50:  time.Duration(median(all, func(f figures) float64 { return float64(f.p50) })),
		p99:  time.Duration(median(all, func(f figures) float64 { return float64(f.p99) })),
	}
}

func median(all []figures, of func(figures) float64) float64 {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
