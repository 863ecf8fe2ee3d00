package main

// keepPrivate is left to the access control lists here.
func keepPrivate() {}
