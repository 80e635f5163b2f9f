package walk

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
)

// The forms in which the scan finds a word.
const (
	inClear  = "in clear"
	inBase64 = "in base64"
	inQP     = "in quoted-printable"
)

// needles are the byte strings that give a marker away once line breaks are gone.
// Base64 shows a word in one of three forms, by its place in the triplets of octets; the characters
// at either end depend on the neighbours and are left out.
func needles(marker string) map[string][][]byte {
	n := map[string][][]byte{inClear: {[]byte(marker)}}
	for shift := range 3 {
		padded := strings.Repeat("\x00", shift) + marker
		enc := base64.RawStdEncoding.EncodeToString([]byte(padded))
		from := (shift*8 + 5) / 6
		n[inBase64] = append(n[inBase64], []byte(enc[from:len(padded)*8/6]))
	}
	var qp strings.Builder
	for _, c := range []byte(marker) {
		fmt.Fprintf(&qp, "=%02X", c)
	}
	n[inQP] = [][]byte{[]byte(qp.String())}
	return n
}

// scanBlock is how much of a file is looked at in one go, overlap how much of the end of
// one block is looked at again with the next.
const (
	scanBlock = 1 << 20
	overlap   = 8 << 10
)

// scan looks for the markers in a file, in clear, in base64 (wrapped or not) and in
// quoted-printable. It returns the file's size and how a marker was found, or "".
func scan(path string, markers []string) (size int64, how string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	buf := make([]byte, 0, scanBlock+overlap)
	for {
		n, err := io.ReadFull(f, buf[len(buf):scanBlock+len(buf)])
		buf = buf[:len(buf)+n]
		size += int64(n)
		if how := find(buf, markers); how != "" {
			return size, how, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return size, "", nil
		}
		if err != nil {
			return size, "", err
		}
		buf = buf[:copy(buf, buf[len(buf)-overlap:])]
	}
}

func find(block []byte, markers []string) string {
	joined := bytes.ReplaceAll(block, []byte("=\r\n"), nil) // soft line breaks
	joined = bytes.ReplaceAll(joined, []byte("=\n"), nil)
	joined = bytes.ReplaceAll(joined, []byte("\r\n"), nil)
	joined = bytes.ReplaceAll(joined, []byte("\n"), nil)
	for _, m := range markers {
		for how, list := range needles(m) {
			for _, n := range list {
				if bytes.Contains(joined, n) || bytes.Contains(block, n) {
					return how
				}
			}
		}
	}
	return ""
}

// planting is a text that holds a marker in one of the forms.
type planting struct{ how, text string }

func plantedForms(marker string) []planting {
	var list []planting
	for shift := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 50+shift) + marker + "yyyy"))
		list = append(list, planting{inBase64, enc[:76] + "\r\n" + enc[76:]}, planting{inBase64, enc})
	}
	half := len(marker) / 2
	var qp strings.Builder
	for i, c := range []byte(marker) {
		if i == half {
			qp.WriteString("=\r\n")
		}
		fmt.Fprintf(&qp, "=%02X", c)
	}
	return append(list, planting{inClear, "a text with " + marker + " in it"}, planting{inClear, marker[:half] + "=\r\n" + marker[half:]},
		planting{inQP, qp.String()})
}
