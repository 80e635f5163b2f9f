package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/testkit"
)

// wire listens in on the loopback interface.
type wire struct {
	fd   int
	done chan struct{}

	mu   sync.Mutex
	seen bytes.Buffer // all TCP segments from and to the ports
}

// listenIn records what goes to and comes from the ports from low to high, and others. It needs the right to open packet sockets.
func listenIn(t *testing.T, low, high uint16, others ...uint16) *wire {
	t.Helper()
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, all)
	if err != nil {
		t.Skipf("skipped: packets cannot be captured here: %v", err)
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index})
	}
	if err == nil {
		err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000})
	}
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{fd: fd, done: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.read(func(port uint16) bool { return port >= low && port <= high || slices.Contains(others, port) })
	}()
	t.Cleanup(func() {
		close(w.done)
		<-ended
		syscall.Close(fd)
	})
	return w
}

func (w *wire) read(listens func(port uint16) bool) {
	frame := make([]byte, 128<<10)
	for {
		select {
		case <-w.done:
			return
		default:
		}
		n, _, err := syscall.Recvfrom(w.fd, frame, 0)
		if err != nil || n < 14+20+20 {
			continue
		}
		ip := frame[14:n]
		head := int(ip[0]&0x0f) * 4
		if ip[0]>>4 == 6 {
			head = 40
		}
		if len(ip) < head+20 {
			continue
		}
		from, to := binary.BigEndian.Uint16(ip[head:]), binary.BigEndian.Uint16(ip[head+2:])
		if listens(from) || listens(to) {
			w.mu.Lock()
			w.seen.Write(ip[head:])
			w.mu.Unlock()
		}
	}
}

// holds says whether the word went over the wire, in clear or in base64.
func (w *wire) holds(word string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for shift := range 3 {
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + word))
		if bytes.Contains(w.seen.Bytes(), []byte(enc[(shift*8+5)/6:(shift+len(word))*8/6])) {
			return true
		}
	}
	return bytes.Contains(w.seen.Bytes(), []byte(word))
}

// TestNothingInClearOnTheWire captures all that goes between clients and the platform while mail of all labels is sent, saved and read.
func TestNothingInClearOnTheWire(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	w := listenIn(t, uint16(s.base), uint16(s.base+9999))
	const marker = "wiremarkerqzq"
	for i, label := range []string{"", "[RESTRICTED] ", "[CONFIDENTIAL] ", "[SECRET] "} {
		text := mailOf(alice, bob, label+marker, marker)
		out, err := s.send("alice", alice, []string{bob}, text)
		if refused := label == "[SECRET] "; (err != nil) != refused {
			t.Fatalf("%s: %v %s", label, err, out)
		}
		for _, mailbox := range []string{"Sent", "Drafts"} {
			_, err := s.run("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("alice"), "-T", s.tmp(strings.ReplaceAll(text, "\n", "\r\n")), "imaps://"+s.addr(993)+"/"+mailbox)
			if refused := label == "[SECRET] "; (err != nil) != refused {
				t.Fatalf("%s to %s: %v", label, mailbox, err)
			}
		}
		if i < 2 && !strings.Contains(s.last("bob", "INBOX"), marker) {
			t.Errorf("%s: bob cannot read it", label)
		}
	}
	if w.holds(marker) || strings.Contains(s.log.String(), marker) {
		t.Error("the marker went over the wire in clear, or is in the log")
	}
	w.sees(s, marker)
}

// sees makes sure that the capture sees what is sent in clear.
func (w *wire) sees(s *site, marker string) {
	t := s.t
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.base+25))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("EHLO " + marker + "\r\n")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); !w.holds(marker); {
		if time.Now().After(deadline) {
			t.Fatal("the capture sees nothing")
		}
		time.Sleep(10 * time.Millisecond) // polling what the kernel hands over
	}
}
