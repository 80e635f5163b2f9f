package keys

import (
	"bytes"
	"reflect"
	"unsafe"
)

// Wipe overwrites the private key in memory. It must not be used any more. The key is within types of the standard library that have no way to do that: so
// what they hold is gone through, and wherever there are the octets of the key they are overwritten. Should a later release keep them otherwise, the key
// is merely dropped, as everything else is, and the test that looks into memory says so.
func (p *PrivateKey) Wipe() {
	if p == nil {
		return
	}
	raw, err := p.key.Bytes()
	if err != nil {
		return
	}
	defer clear(raw)
	wipe(reflect.ValueOf(p.key), raw, 8)
}

// wipe overwrites every slice of octets below v that is equal to secret.
func wipe(v reflect.Value, secret []byte, depth int) {
	if depth == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			wipe(v.Elem(), secret, depth-1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wipe(v.Field(i), secret, depth-1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 || v.Len() != len(secret) {
			return
		}
		if b := unsafe.Slice((*byte)(v.UnsafePointer()), v.Len()); bytes.Equal(b, secret) {
			clear(b)
		}
	}
}
