// Package process runs each session of an agent as processes of this machine, in
// namespaces of their own: users, mounts, processes, network.
//
//	platform                          │ the session's namespaces
//	                                  │
//	Start ── the executable again ───▶│ init (process 1): mounts, loopback, limits
//	      ── plan, folders shown ────▶│   └─▶ the agent: no capabilities, no way to get any, a filter of system calls
//	Dial  ── a socket ───────────────▶│ init ─▶ 127.0.0.1:PORT, the agent's
//	Platform, Proxy ◀── a socket ─────│ init ◀─ 127.0.0.1:7079 and :7078, for the agent
//	Run   ── a command, its pipes ───▶│   └─▶ sh -c, beside the agent
//
// All of it goes through one socket pair between the platform and the session's
// init, the channel, which has no name on any file system: nobody else can reach
// an agent, and an agent reaches nothing but what its init was given.
//
// Invariants: when the channel ends, because the platform stops or is killed, the
// init ends, and with it, as process 1, everything of the session. An agent sees
// the system's programs, its code and its own folders; of the platform's files,
// of other sessions and of the network it sees nothing.
package process
