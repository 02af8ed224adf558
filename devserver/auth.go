package devserver

import (
	"errors"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

var errNoToken = errors.New("a bearer token is needed")

// IssueToken returns a token with which a client acts as the user.
func (s *Server) IssueToken(userID string) (string, error) {
	if userID == "" {
		return "", errors.New("devserver: a token needs a user id")
	}
	now := s.cfg.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   userID,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(s.cfg.TokenTTL)),
	}).SignedString(s.cfg.Secret)
}

// authenticate returns the user whom the request's token names.
func (s *Server) authenticate(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errNoToken
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return s.cfg.Secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithTimeFunc(s.cfg.Now), jwt.WithExpirationRequired())
	if err != nil {
		return "", err
	}
	if claims.Subject == "" {
		return "", errors.New("the token names no user")
	}
	return claims.Subject, nil
}

// signIn hands out a token to anybody.
func (s *Server) signIn(c *call) error {
	var in struct{ User, Password string }
	if err := c.body(&in, "invalid_request"); err != nil {
		return err
	}
	if in.User == "" {
		return invalidRequest("user is missing")
	}
	token, err := s.IssueToken(in.User)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, map[string]string{"token": token})
	return nil
}
