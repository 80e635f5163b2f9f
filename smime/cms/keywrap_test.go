package cms

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyWrap uses the vectors of RFC 3394, section 4.
func TestKeyWrap(t *testing.T) {
	const kek = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	const data = "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"
	for _, v := range []struct {
		kek, data int
		want      string
	}{
		{16, 16, "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		{24, 16, "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d"},
		{32, 16, "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"},
		{24, 24, "031d33264e15d33268f24ec260743edce1c6c7ddee725a936ba814915c6762d2"},
		{32, 24, "a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1"},
		{32, 32, "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
	} {
		k, d := unhex(t, kek)[:v.kek], unhex(t, data)[:v.data]
		got, err := wrapKey(k, d)
		if err != nil || hex.EncodeToString(got) != v.want {
			t.Errorf("wrap %d under %d: %x, %v", v.data, v.kek, got, err)
		}
		back, err := unwrapKey(k, got)
		if err != nil || !bytes.Equal(back, d) {
			t.Errorf("unwrap %d under %d: %x, %v", v.data, v.kek, back, err)
		}
		for i := range got {
			bad := bytes.Clone(got)
			bad[i] ^= 1
			if _, err := unwrapKey(k, bad); err == nil {
				t.Errorf("unwrap %d under %d: byte %d changed and accepted", v.data, v.kek, i)
			}
		}
	}
	for _, n := range []int{0, 8, 15, 16, 25, 80} {
		if _, err := unwrapKey(make([]byte, 16), make([]byte, n)); err == nil {
			t.Errorf("%d bytes unwrapped", n)
		}
	}
	if _, err := wrapKey(make([]byte, 16), make([]byte, 8)); err == nil {
		t.Error("8 bytes wrapped")
	}
	if _, err := wrapKey(make([]byte, 5), make([]byte, 16)); err == nil {
		t.Error("wrapped under a key of 5 bytes")
	}
}

// TestX963KDF uses NIST's component test vectors for ANSI X9.63-2001.
func TestX963KDF(t *testing.T) {
	for _, v := range []struct {
		h             crypto.Hash
		z, info, want string
	}{
		{crypto.SHA1, "1c7d7b5f0597b03d06a018466ed1a93e30ed4b04dc64ccdd", "", "bf71dffd8f4d99223936beb46fee8ccc"},
		{crypto.SHA256, "96c05619d56c328ab95fe84b18264b08725b85e33fd34f08", "", "443024c3dae66b95e6f5670601558f71"},
		{
			crypto.SHA256, "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d", "75eef81aa3041e33b80971203d2c0c52",
			"c498af77161cc59f2962b9a713e2b215152d139766ce34a776df11866a69bf2e" +
				"52a13d9c7c6fc878c50c5ea0bc7b00e0da2447cfd874f6cf92f30d0097111485" +
				"500c90c3af8b487872d04685d14c8d1dc8d7fa08beb0ce0ababc11f0bd496269" +
				"142d43525a78e5bc79a17f59676a5706dc54d54d4d1f0bd7e386128ec26afc21",
		},
	} {
		want := unhex(t, v.want)
		if got := x963KDF(v.h, unhex(t, v.z), unhex(t, v.info), len(want)); !bytes.Equal(got, want) {
			t.Errorf("%v %s: %x", v.h, v.z, got)
		}
	}
}

// TestSharedInfo compares with an encoding made by hand from RFC 5753, section 7.2.
func TestSharedInfo(t *testing.T) {
	got := eccSharedInfo(algorithm{oidAES256Wrap, nil}, []byte{1, 2, 3}, 32)
	want := "301c" + "300b0609608648016503040" + "12d" + "a005" + "0403010203" + "a206" + "040400000100"
	if hex.EncodeToString(got) != want {
		t.Errorf("%x, want %s", got, want)
	}
	if got := eccSharedInfo(algorithm{oidAES128Wrap, null()}, nil, 16); hex.EncodeToString(got) !=
		"3017"+"300d0609608648016503040105"+"0500"+"a206"+"040400000080" {
		t.Errorf("%x", got)
	}
}

func FuzzUnwrap(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("0123456789abcdef01234567"))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), []byte("0123456789abcdef0123456789abcdef01234567"))
	f.Fuzz(func(t *testing.T, kek, b []byte) {
		if key, err := unwrapKey(kek, b); err == nil {
			if again, err := wrapKey(kek, key); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x unwraps to %x, which wraps to %x, %v", b, key, again, err)
			}
		}
		if wrapped, err := wrapKey(kek, b); err == nil && len(b) <= 64 {
			if back, err := unwrapKey(kek, wrapped); err != nil || !bytes.Equal(back, b) {
				t.Fatalf("%x wraps to %x, which unwraps to %x, %v", b, wrapped, back, err)
			}
		}
	})
}
