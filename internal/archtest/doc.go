// Package archtest holds the project's structure as data and checks the code
// against it: who may import whom, what each program may link, that every
// package says what it is for, and that files stay small. It has only tests.
package archtest
