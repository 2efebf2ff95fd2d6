// Package inside is process 1 of a session: what package process starts, and talks
// with by a Channel.
//
// It takes the process over while packages are initialised, in a process that was
// started under its Name, and so before main, and before the packages of the house
// and most of what they need have been made ready: that would take longer, and more
// memory for each session, than all that is done here. Therefore it imports nothing
// of ours and little else, no HTTP above all.
//
// Invariants: it ends with its channel, and everything of the session with it. An
// archive of storage is believed nothing that would lead out of its folders.
package inside
