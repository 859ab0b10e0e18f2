// Package mount shows files that are served elsewhere over SFTP in a folder of this
// machine, through FUSE.
//
// What is there is asked for when a program looks, so it is never older than two seconds:
// one here, one in the kernel.
// While the server is away, programs that look wait, a minute at most, and then get an
// I/O error. A file that is open when the server has been replaced by another is stale:
// its reads fail, rather than go on with another version.
//
// Files belong to the user of this process, and are for that user alone, whatever modes
// they have where they are served: a program that wants a key to be nobody else's is
// content. They can be read alone, unless Config.Write is set: what is written is with the
// server when a write returns.
package mount
