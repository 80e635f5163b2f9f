package main

import (
	"net"
	"os"
)

// notifySystemd tells the service manager how we are, if it asked to be told (sd_notify(3)).
func notifySystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path) // a leading @ is the abstract name space, for net as for systemd
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state)) // whoever does not listen is not told
}
