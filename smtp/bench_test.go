package smtp

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// BenchmarkSubmission is 64 connections that send messages of 4 KiB over STARTTLS to a
// door that takes everything.
func BenchmarkSubmission(b *testing.B) {
	d := newDesk()
	_, addr := start(b, d, MX, nil)
	text := "Subject: good\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 52) + ".\r\n"
	b.SetBytes(int64(len(text)))
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := sender(addr, text, work); err != nil {
				b.Error(err)
			}
		}()
	}
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}

func sender(addr, text string, work <-chan struct{}) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func(s, code string) error {
		if _, err := io.WriteString(c, s); err != nil {
			return err
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, code) {
				return fmt.Errorf("after %.20q: %q, %v", s, line, err)
			}
			if line[3] == ' ' {
				return nil
			}
		}
	}
	steps := func(s ...string) error {
		for i := 0; i < len(s); i += 2 {
			if err := ask(s[i], s[i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := steps("", "220", "EHLO a\r\n", "250", "STARTTLS\r\n", "220"); err != nil {
		return err
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	c, r = t, bufio.NewReader(t)
	if err := steps("EHLO a\r\n", "250"); err != nil {
		return err
	}
	for range work {
		if err := steps("MAIL FROM:<s@example.org>\r\n", "250", "RCPT TO:<bob@works.gov.example>\r\n", "250", "DATA\r\n", "354", text, "250"); err != nil {
			return err
		}
	}
	return nil
}
