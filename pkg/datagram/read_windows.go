package datagram

import "net"

// Read gives the next datagram of a connected socket to take, which must not keep it. Here
// it waits with a buffer.
func Read(conn *net.UDPConn, take func([]byte) error) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	n, err := conn.Read(*b)
	if err != nil {
		return err
	}
	return take((*b)[:n])
}
