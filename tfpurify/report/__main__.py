"""`python -m tfpurify.report`."""

from tfpurify.report.writing import main

if __name__ == "__main__":
    main()
