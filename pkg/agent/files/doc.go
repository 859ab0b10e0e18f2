// Package files shows the volumes of a container, over SFTP, to whoever has the other
// end of a flow. Volumes are read alone, unless they are given to be written; regular files
// alone are opened, and a link that leads out of its volume is shown and not followed.
//
// The paths are the container's own: a volume that the agent has elsewhere is shown
// where the app has it, and the folders on the way there exist for its sake.
package files
