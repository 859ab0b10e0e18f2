package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseRegistration(t *testing.T) {
	want := Registration{
		ID:    "i",
		Owner: Owner{User: "alice", Host: "desk", Session: "s", Since: time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)},
		Rules: []Rule{{Port: Port{Number: 8080}, Action: Take}, {Port: Port{Number: 8080, Protocol: UDP}, Action: Take}},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"id":"i","owner":{"user":"alice","host":"desk","session":"s","since":"2024-05-01T12:00:00Z"},` +
		`"rules":[{"port":8080,"action":"take"},{"port":8080,"protocol":"udp","action":"take"}]}`
	if string(data) != text {
		t.Errorf("written as %s", data)
	}
	if got, err := ParseRegistration(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read as %+v, %v", got, err)
	}
}

// What an agent does not know must not be left out: less of a rule takes more.
func TestParseRegistrationRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"i","rules":[{"port":80,"action":"take","mirror":true}]}`:                                                    `unknown field "mirror"`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"header","name":"a","test":"present","not":true}]}]}`: `unknown field "not"`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"cookie","name":"a","test":"present"}]}]}`:            `unknown subject "cookie"`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"path","test":"suffix","value":"/"}]}]}`:              `unknown test "suffix"`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"path","test":"prefix","value":"x"}]}]}`:              `does not begin with /`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"header","name":"a b","test":"present"}]}]}`:          `is no name of a header`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"header","name":"a","test":"regex","value":"("}]}]}`:  `missing closing`,
		`{"id":"i","rules":[{"port":80,"action":"take","match":[{"on":"method","test":"anyOf"}]}]}`:                         `0 methods`,
		`{"id":"i","rules":[{"port":80,"action":"take"}],"until":"noon"}`:                                                   `unknown field "until"`,
		`{"id":"i","owner":{"team":"x"},"rules":[{"port":80,"action":"take"}]}`:                                             `unknown field "team"`,
		`{"id":"i","rules":[{"port":80,"action":"steal"}]}`:                                                                 `unknown action "steal" for port 80`,
		`{"id":"i","rules":[{"port":80}]}`:                                                                                         `unknown action "" for port 80`,
		`{"id":"i","rules":[{"port":80,"action":"take"},{"port":80,"action":"take"}]}`:                                             "two rules for port 80",
		`{"id":"i","rules":[{"port":0,"action":"take"}]}`:                                                                          "0 is not a port",
		`{"id":"i","rules":[{"port":65536,"action":"take"}]}`:                                                                      "cannot unmarshal",
		`{"id":"i","rules":[{"port":80,"protocol":"sctp","action":"take"}]}`:                                                       `unknown protocol "sctp"`,
		`{"id":"i","rules":[{"port":80,"protocol":"udp","action":"mirror"}]}`:                                                      "port 80/udp: datagrams are taken all, or none",
		`{"id":"i","rules":[{"port":80,"protocol":"udp","action":"take","match":[{"on":"method","test":"anyOf","any":["GET"]}]}]}`: "port 80/udp: datagrams are taken all, or none",
		`{"id":"i"}`: "no rules",
		`{"rules":[{"port":80,"action":"take"}]}`:            "no ID",
		`{"id":"i","rules":[{"port":80,"action":"take"}]}{}`: "more than one JSON value",
		`{"id":"i"`: "unexpected EOF",
		``:          "EOF",
	} {
		r, err := ParseRegistration([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "registration: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", text, r, err, want)
		}
	}
}
