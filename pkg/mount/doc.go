// Package mount shows files that are served elsewhere over SFTP in a folder of this
// machine, through FUSE.
//
// What is there is asked for when a program looks, so it is never older than two seconds:
// one here, one in the kernel.
// While the server is away, programs that look wait, a minute at most, and then get an
// I/O error. An open file stays the one that was opened, also when it is replaced or removed
// on the server; when the connection has ended it is stale: its reads fail, rather than go on
// with another version.
//
// Files belong to the user of this process, and are for that user only, whatever modes
// they have where they are served: a program that wants a key to be nobody else's is
// content. They can only be read, unless Config.Write is set: what is written is with the
// server when a write returns, and what its file system says of that later is returned by
// close and fsync. Fsync promises no more than that the server's kernel has what was
// written. What is appended goes to the end that the file has on the server by then.
//
// UNIX sockets are shown as links to listeners of this machine, which lead to them.
// Copy copies what is served, once, without FUSE.
// Unpack does so from a tar archive.
package mount
