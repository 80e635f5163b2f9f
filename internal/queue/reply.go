package queue

import (
	"bufio"
	"errors"
	"strconv"
	"strings"
)

// reply is an answer of an SMTP server (RFC 5321, section 4.2).
type reply struct {
	code  int
	lines []string // without code and line end
}

// Limits of one reply. A line of ours may be 512 octets; servers exceed that.
const (
	maxReplyLine  = 2048
	maxReplyLines = 200
)

var errReply = errors.New("the server's reply cannot be understood")

// readReply reads one whole reply. What is cut off is none.
func readReply(r *bufio.Reader) (reply, error) {
	var out reply
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return reply{}, errReply
		} else if err != nil {
			return reply{}, err
		}
		code, text, last, ok := parseReplyLine(string(line))
		if !ok || len(out.lines) > 0 && code != out.code || len(out.lines) == maxReplyLines {
			return reply{}, errReply
		}
		out.code, out.lines = code, append(out.lines, text)
		if last {
			return out, nil
		}
	}
}

// parseReplyLine reads "250-text" or "250 text" or "250".
func parseReplyLine(line string) (code int, text string, last, ok bool) {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, "", false, false
	}
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return 0, "", false, false
		}
		code = code*10 + int(c-'0')
	}
	if len(line) == 3 {
		return code, "", true, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, line[4:], line[3] == ' ', true
}

// status is the enhanced status code (RFC 2034), made up from the code where the server gave none that fits.
func (r reply) status() string {
	if len(r.lines) > 0 {
		word, _, _ := strings.Cut(r.lines[0], " ")
		if parts := strings.Split(word, "."); len(parts) == 3 && parts[0] == strconv.Itoa(r.code/100) && number(parts[1]) && number(parts[2]) {
			return word
		}
	}
	switch r.code {
	case 421, 451:
		return "4.3.0"
	case 450:
		return "4.2.0"
	case 452:
		return "4.3.1"
	case 550, 551, 553:
		return "5.1.0"
	case 552:
		return "5.2.2"
	}
	return strconv.Itoa(r.code/100) + ".0.0"
}

func number(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n < 1000 && strconv.FormatUint(n, 10) == s
}

// String is the reply in one line of printable ASCII.
func (r reply) String() string {
	return clean(strconv.Itoa(r.code) + " " + strings.Join(r.lines, " "))
}
