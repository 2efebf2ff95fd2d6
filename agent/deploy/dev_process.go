package deploy

import (
	"errors"
	"os/exec"
	"time"
)

// process is an agent that runs on this machine, with all that it has started.
type process struct {
	command *exec.Cmd
	output  *lineWriter
	done    chan struct{}
	why     string
}

// stopTime is how long an agent may take to end, as in a session.
const stopTime = 10 * time.Second

func startProcess(folder string, line, environment []string, each func(string)) (*process, error) {
	if each == nil {
		each = func(string) {}
	}
	p := &process{command: exec.Command(line[0], line[1:]...), output: &lineWriter{each: each}, done: make(chan struct{})}
	p.command.Dir, p.command.Env, p.command.Stdout, p.command.Stderr = folder, environment, p.output, p.output
	p.command.WaitDelay = time.Second // what it has left behind may hold its output open
	ownGroup(p.command)
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.why = "exit status 0"
		if err := p.command.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			p.why = err.Error()
		}
		endGroup(p.command, true) // nothing of it goes on
	}()
	return p, nil
}

// ended is closed when the agent is no more; of no process it never is.
func (p *process) ended() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.done
}

// end says how; to be asked after ended.
func (p *process) end() string {
	<-p.done
	return p.why
}

// stop ends it: politely, then by force.
func (p *process) stop() {
	if p == nil {
		return
	}
	endGroup(p.command, false)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		endGroup(p.command, true)
		<-p.done
	}
}
