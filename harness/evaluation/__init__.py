"""mIoU from one confusion matrix over a set of whole images."""
