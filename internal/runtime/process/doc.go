// Package process runs each session of an agent as processes of this machine, in
// namespaces of their own: users, mounts, processes, network.
//
//	platform                          │ the session's namespaces
//	                                  │
//	Start ── the executable again ───▶│ init (process 1): mounts, loopback, limits
//	      ── plan, folders shown ────▶│   └─▶ the agent: no capabilities, no way to get any, a filter of system calls
//	Dial  ── wanted ─────────────────▶│ init ─▶ 127.0.0.1:PORT, the agent's
//	      ◀─ the connection ──────────│   a socket belongs to the network in which it was made, whoever has it
//	Platform, Proxy ◀── two listeners │ 127.0.0.1:7079 and :7078, for the agent: the platform takes their connections itself
//	Run   ── a command, its pipes ───▶│   └─▶ sh -c, beside the agent
//	Storage ◀── an archive, a pipe ──▶│ init: unpacks it before the agent starts, packs it now and then and after the agent's end
//
// The init makes sockets in the session's network and hands them to the platform
// by one socket pair, the channel, which has no name on any file system. No byte of a
// call goes through the init. Nobody else can reach an agent, and an agent reaches
// nothing but those two listeners.
//
// The init is package inside, which takes over the processes that are to be a
// session's first before any main begins.
//
// Invariants: when the channel ends, because the platform stops or is killed, the
// init ends, and with it, as process 1, everything of the session. What a session
// stores is opaque to the platform. An agent sees
// the system's programs, its code and its own folders; of the platform's files,
// of other sessions and of the network it sees nothing.
package process
