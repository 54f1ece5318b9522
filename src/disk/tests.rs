//! The promises of the seam, kept by whichever disk is behind it.
