package wire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

var testLimits = Limits{Line: 200, Literals: 100, NonSync: 50, Swallow: 10_000, Depth: 10, Elements: 50}

// transcript reads commands from in until the stream ends and says what it saw: "tag NAME" for a
// command, "tag!" for a refused one, "+" for a continuation, "BYE" for a fatal end.
func transcript(in io.Reader, lim Limits) string {
	var out []string
	r := NewReader(in)
	r.Limits = lim
	r.Continue = func() error { out = append(out, "+"); return nil }
	r.Gate = func(c *Command, size int64) (int64, *Error) {
		switch {
		case c.Name == "DENIED":
			return 0, &Error{No: true, Text: "no"}
		case c.Name == "BIG":
			return 1000, nil
		}
		return 0, nil
	}
	var c Command
	for {
		err := r.ReadCommand(&c)
		var e *Error
		switch {
		case err == nil:
			out = append(out, c.Tag+" "+c.Name)
		case errors.As(err, &e) && e.Fatal:
			return strings.Join(append(out, "BYE"), ", ")
		case errors.As(err, &e):
			out = append(out, c.Tag+"!")
		default:
			if err != io.EOF {
				out = append(out, err.Error())
			}
			return strings.Join(out, ", ")
		}
	}
}

func TestReadCommand(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "a NOOP\r\nb noop\r\n", "a NOOP, b NOOP"},
		{"no tag", "\r\n + NOOP\r\n* NOOP\r\na\r\n", " ,  ,  , a "},
		{"literal", "a LOGIN {5}\r\nalice {3+}\r\nabc\r\nb NOOP\r\n", "+, a LOGIN, b NOOP"},
		{"literal holds lines", "a X {13}\r\nb NOOP\r\nc N\r\n\r\nd NOOP\r\n", "+, a X, d NOOP"},
		{"refused, not executed", "a DENIED {12+}\r\nz CREATE x\r\n\r\nb NOOP\r\n", "a!, b NOOP"},
		{"refused, synchronizing", "a DENIED {11}\r\nb NOOP\r\n", "a!, b NOOP"},
		{"refused, then more literals", "a DENIED {3+}\r\nabc {12+}\r\nz CREATE x\r\n x\r\nb NOOP\r\n", "a!, b NOOP"},
		{"refused, then synchronizing", "a DENIED {3+}\r\nabc {11}\r\nb NOOP\r\n", "a!, b NOOP"},
		{"over LITERAL-", "a X {51+}\r\n" + x(51) + "\r\nb NOOP\r\n", "a!, b NOOP"},
		{"total of literals", "a X {50+}\r\n" + x(50) + " {50+}\r\n" + x(50) + " {1+}\r\nx\r\nb NOOP\r\n", "a!, b NOOP"},
		{"allowed more by the gate", "a BIG {900}\r\n" + x(900) + "\r\nb NOOP\r\n", "+, a BIG, b NOOP"},
		{"too big for the gate", "a BIG {1001}\r\nb NOOP\r\n", "a!, b NOOP"},
		{"non-synchronizing too large to swallow", "a X {200000000+}\r\nz CREATE x\r\n", "BYE"},
		{"number too large", "a X {99999999999999999999999+}\r\nz CREATE x\r\n", "BYE"},
		{"number longer than we look", "a X {" + strings.Repeat("0", 60) + "5+}\r\nz CREATE x\r\n", "BYE"},
		{"line too long", "a X " + x(300) + "\r\nb NOOP\r\n", "a!, b NOOP"},
		{"line too long, with a literal", "a X " + x(300) + " {12+}\r\nz CREATE x\r\n\r\nb NOOP\r\n", "a!, b NOOP"},
		{"line far too long", "a X " + x(20_000) + "\r\nb NOOP\r\n", "BYE"},
		{"bare LF", "a NOOP\nb NOOP\r\n", "a!, b NOOP"},
		{"bare LF after a literal announcement", "a X {3+}\nabc\r\n", "BYE"},
		{"NUL", "a X \x00\r\nb NOOP\r\n", "a!, b NOOP"},
		{"NUL in a literal", "a X {1+}\r\n\x00\r\nb NOOP\r\n", "a!, b NOOP"},
		{"unterminated quoted string", "a X \"{12+}\r\nz CREATE x\r\n\r\nb NOOP\r\n", "a X, b NOOP"},
		{"cut off", "a NOO", "unexpected EOF"},
		{"cut off in a literal", "a X {5}\r\nab", "+, unexpected EOF"},
		{"binary literal", "a X ~{3+}\r\na\x00b\r\nb NOOP\r\n", "a X, b NOOP"},
	} {
		if got := transcript(strings.NewReader(tt.in), testLimits); got != tt.want {
			t.Errorf("%s: got  %s\n want %s", tt.name, got, tt.want)
		}
		if got := transcript(iotest.OneByteReader(strings.NewReader(tt.in)), testLimits); got != tt.want {
			t.Errorf("%s, byte by byte: got  %s\n want %s", tt.name, got, tt.want)
		}
	}
}

func TestReadLine(t *testing.T) {
	r := NewReader(iotest.OneByteReader(strings.NewReader("DONE\r\n" + strings.Repeat("y", 5000) + "\r\na NOOP\r\n")))
	r.Limits = testLimits
	if b, err := r.ReadLine(100); string(b) != "DONE" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := r.ReadLine(6000); len(b) != 5000 || err != nil {
		t.Errorf("got %d octets, %v", len(b), err)
	}
	var c Command
	if err := r.ReadCommand(&c); err != nil || c.Name != "NOOP" {
		t.Errorf("got %q, %v", c.Name, err)
	}
	for _, in := range []string{strings.Repeat("y", 200) + "\r\n", strings.Repeat("y", 10_000), "DONE\n"} {
		var e *Error
		if _, err := NewReader(strings.NewReader(in)).ReadLine(100); !errors.As(err, &e) || !e.Fatal {
			t.Errorf("%.10q: got %v", in, err)
		}
	}
}

// A source that fails with a deadline between any two octets must not make a line lose any.
func TestReadLineAfterDeadlines(t *testing.T) {
	src := &stutter{s: "DONE\r\n"}
	r := NewReader(src)
	for {
		b, err := r.ReadLine(10)
		if err == errStutter {
			continue
		}
		if string(b) != "DONE" || err != nil {
			t.Fatalf("got %q, %v", b, err)
		}
		break
	}
}

var errStutter = errors.New("deadline")

type stutter struct {
	s    string
	fail bool
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.fail = !s.fail; s.fail {
		return 0, errStutter
	}
	if s.s == "" {
		return 0, io.EOF
	}
	p[0], s.s = s.s[0], s.s[1:]
	return 1, nil
}

func FuzzReadCommand(f *testing.F) {
	f.Add("a LOGIN {5}\r\nalice {3+}\r\nabc\r\nb NOOP\r\n")
	f.Add("a DENIED {12+}\r\nz CREATE x\r\n\r\nb NOOP\r\n")
	f.Add("a X ~{3+}\r\na\x00b\r\nb NOOP\n\r\n" + strings.Repeat("l", 300) + "{4}\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		whole := transcript(strings.NewReader(in), testLimits)
		if bytewise := transcript(iotest.OneByteReader(strings.NewReader(in)), testLimits); bytewise != whole {
			t.Fatalf("%q: at once %q, byte by byte %q", in, whole, bytewise)
		}
	})
}

// ExampleReader_refused shows that the content of a refused literal is no command.
func ExampleReader_refused() {
	fmt.Println(transcript(strings.NewReader("a DENIED {12+}\r\nz CREATE x\r\n\r\nb NOOP\r\n"), testLimits))
	// Output: a!, b NOOP
}
