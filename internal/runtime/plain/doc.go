// Package plain runs each session of an agent as ordinary processes of the
// platform's own user. It isolates nothing: an agent can read what the platform
// can read, its data folder and keys among it, reach what the machine reaches, and
// stop, watch or talk to other sessions. It is for machines that have no
// namespaces, and for trusted agents; the operator chooses it by a flag whose name
// says that it is unsafe.
//
//	platform                              │ the session
//	Start ── the executable again ───────▶│ keeper: starts, reaps, and ends everything below it
//	      ── a pipe, open while we live ─▶│   └─▶ the agent, which listens on 127.0.0.1:$PORT
//	Dial  ── 127.0.0.1:$PORT ────────────▶│         in the code's folder, with HOME and TMPDIR of its own
//	Platform, Proxy ◀── two listeners on 127.0.0.1, with ports of their own ── the agent
//	Run   ── a keeper again ─────────────▶│ keeper └─▶ sh -c
//
// All sessions share one loopback interface. So Launch.Port does not hold: each
// session has a free port, which the agent learns from PORT and must listen on.
// Nor do the platform's and the proxy's usual addresses, 127.0.0.1:7079 and :7078:
// wherever they stand in the environment, the session's own stand instead.
//
// Invariant: when the platform stops or is killed, the pipe ends, and the keeper
// ends what the agent has started, also where that had left its process group (on
// Linux; elsewhere what has left the group goes on).
package plain
