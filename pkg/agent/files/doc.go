// Package files shows the volumes of a container, over SFTP, to whoever has the other
// end of a flow. Volumes can only be read, unless they are given to be written; only regular
// files are opened, and a link that leads out of its volume is shown and not followed.
//
// The paths are the container's own: a volume that the agent has elsewhere is shown
// where the app has it, and the folders on the way there exist for its sake.
// What is asked of an open file is answered of that file, whatever is at its path by then.
package files
