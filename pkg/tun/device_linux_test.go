package tun

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun/tuntest"
)

func open(t *testing.T) Device {
	t.Helper()
	tuntest.NeedTUN(t)
	d, err := Open(MaxMTU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestCloseEndsRead(t *testing.T) {
	d := open(t)
	// Only a file that the poller knows can be given up on, by a deadline as
	// by Close.
	file := d.(*device).file
	if err := file.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatalf("the poller does not know the device: %v", err)
	}
	if _, err := d.Read(make([]byte, MaxMTU)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read ended with %v, want deadline exceeded", err)
	}
	_ = file.SetReadDeadline(time.Time{})
	got := make(chan error, 1)
	go func() {
		_, err := d.Read(make([]byte, MaxMTU))
		got <- err
	}()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, os.ErrClosed) {
		t.Errorf("read ended with %v, want closed", err)
	}
	if _, err := d.(VectorWriter).WritePacket([][]byte{{0x45}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v, want closed", err)
	}
}

func TestFromFileRefuses(t *testing.T) {
	tuntest.NeedTUN(t)
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFile(plain, "tele0", 1500); err == nil {
		t.Error("took a file that is no tun")
	}
	f, name, err := OpenFile(1500)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFile(f, name+"x", 1500); err == nil {
		t.Error("took a tun of another name")
	}
	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Error("did not take the file over")
	}
	if _, _, err := OpenFile(1279); err == nil {
		t.Error("mtu 1279 accepted")
	}
}

func TestWritePacket(t *testing.T) {
	d := open(t)
	// A datagram written in pieces arrives at a socket of the kernel.
	if err := NewRouter().Set(d.Name(), Network{Addrs: prefixes("198.18.0.1/30")}); err != nil {
		t.Fatal(err)
	}
	c := listenUDP(t, "198.18.0.1:7")
	packet := []byte{
		0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 2, 198, 18, 0, 1, // IPv4
		0, 9, 0, 7, 0, 11, 0, 0, 'o', 'n', 'e', // UDP without checksum
	}
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(packet[i])<<8 | uint32(packet[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	packet[10], packet[11] = byte(^sum>>8), byte(^sum)
	n, err := d.(VectorWriter).WritePacket([][]byte{packet[:20], packet[20:28], packet[28:]})
	if err != nil || n != len(packet) {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	buf := make([]byte, 10)
	if n, _, err := c.ReadFrom(buf); err != nil || !bytes.Equal(buf[:n], []byte("one")) {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func listenUDP(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
