//! One session with the whole command line, and the texts that a person sees.
