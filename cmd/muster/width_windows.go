package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// terminalWidth is how many columns a console shows; 0 if it is none.
func terminalWidth(file *os.File) int {
	var info windows.ConsoleScreenBufferInfo
	if err := windows.GetConsoleScreenBufferInfo(windows.Handle(file.Fd()), &info); err != nil {
		return 0
	}
	return int(info.Window.Right-info.Window.Left) + 1
}
