package agent

import "net"

// readDatagram gives the next datagram to take. Agents run on Linux: here it
// may wait with a buffer.
func readDatagram(conn *net.UDPConn, take func([]byte) error) error {
	b := datagrams.Get().(*[]byte)
	defer datagrams.Put(b)
	n, err := conn.Read(*b)
	if err != nil {
		return err
	}
	return take((*b)[:n])
}
