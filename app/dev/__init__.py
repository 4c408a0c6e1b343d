"""What only `onelane dev` needs: its programs, their supervisor, the embedded servers, the shop, tokens."""
